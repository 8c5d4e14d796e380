"""The checks of chapter 1: ids, padding, masks and labels."""

import torch

from checks import close, exercise, expect, function, number, tensor
from dpo_core import BookTask, CharTokenizer
from dpo_core.task import stream


def faulty_masks():
    """What the right mask and four wrong ones, A to D, mark in 500 texts: a string for each.

    The faults stand here, not in the chapter, whose exercise 1.6 asks for them.
    """
    prompts, completions = BookTask().demonstrations(500, stream("chapter 1", seed=2))
    texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    tokenizer = CharTokenizer()
    ids, _ = tokenizer.pad([tokenizer.encode(text) for text in texts])
    place = torch.arange(ids.shape[1])
    prompt = torch.tensor([[len(text)] for text in prompts])
    length = torch.tensor([[len(text)] for text in texts])
    # with E for padding: the texts are the same, their padding is E, and every E is taken for it
    real = (ids != tokenizer.pad_id) & (ids != tokenizer.eos_id)
    masks = {
        "right": (place >= prompt) & (place < length),
        "A": (place > prompt) & (place < length),
        "B": place >= prompt,
        "C": (place >= prompt - 1) & (place < length),
        "D": (place >= prompt) & real,
    }
    return {name: tokenizer.decode(ids[mask]) for name, mask in masks.items()}


@exercise("1.1")
def encode_by_hand(answer):
    """The ids of S8=9-1E."""
    expect(isinstance(answer, list), "The answer is a list of ids.", "答案应是一个编号列表。")
    expect(
        len(answer) == 7,
        f"The text has 7 characters; your list has {len(answer)} ids.",
        f"文本有 7 个字符，你的列表有 {len(answer)} 个编号。",
    )
    for position, (mine, right) in enumerate(zip(answer, [1, 12, 20, 13, 15, 5, 2])):
        letter = "S8=9-1E"[position]
        expect(
            mine == right,
            f"{letter} (position {position}) has another id than {mine}.",
            f"{letter}（第 {position} 格，从 0 数起）的编号不是 {mine}。",
        )


@exercise("1.2")
def share_of_padding(answer):
    """Three of thirty cells."""
    close(
        answer,
        3 / 30,
        "Divide the empty cells by all cells, rows times width.",
        "用空格子数除以全部格子数（行数乘宽度）。",
    )


@exercise("1.3")
def mask_of_left_padded_rows(answer):
    """True on the completion, which ends at the right edge."""
    left_mask = function(answer)
    mask = tensor(left_mask([3, 4, 2], [7, 10, 4], 10), (3, 10))
    expect(
        mask.dtype == torch.bool,
        f"The mask holds booleans; yours holds {mask.dtype}.",
        f"掩码里应是布尔值，你的是 {mask.dtype}。",
    )
    expect(
        mask[:, -1].all(),
        "The last column is E in every row, and E is part of the completion.",
        "每行最后一格都是 E，E 也属于回答。",
    )
    for row, length in enumerate((4, 6, 2)):
        marked = int(mask[row].sum())
        expect(
            marked == length,
            f"Row {row} has {length} tokens in its completion; you mark {marked}.",
            f"第 {row} 行的回答有 {length} 个词元，你标了 {marked} 个。",
        )
        expect(
            mask[row, 10 - length :].all(),
            f"Row {row}: the completion is the last {length} tokens.",
            f"第 {row} 行：回答是最后 {length} 个词元。",
        )


@exercise("1.4")
def labels_with_a_hole(answer):
    """Shifted labels, -100 where the loss mask is false."""
    make_labels = function(answer)
    ids = torch.tensor([[1, 11, 20, 7, 14, 8, 2], [1, 5, 20, 5, 2, 0, 0]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]).bool()
    kept = ids.clone()
    labels = tensor(make_labels(ids, mask), (2, 6))
    expect(
        (ids == kept).all(),
        "Your function changed input_ids; the model still needs them.",
        "你的函数改动了 input_ids，模型还要用它。",
    )
    expect(
        (labels[:, :2] == -100).all(),
        "Positions 0 and 1 ask for prompt tokens; they do not count.",
        "第 0、1 格问的是提示里的词元，不计入损失。",
    )
    expect(
        (labels[:, 2] == torch.tensor([7, 5])).all(),
        "Position 2 holds `=`; its label is the first token of the answer.",
        "第 2 格是 `=`，它的标签是回答的第一个词元。",
    )
    expect((labels[1, 4:] == -100).all(), "Padding does not count.", "填充不计入损失。")
    expect(
        (labels[0] == torch.tensor([-100, -100, 7, 14, 8, 2])).all() and labels[1, 3] == 2,
        "A label that counts is the token one place to the right.",
        "计入损失的标签，就是右边一格的词元。",
    )


@exercise("1.5")
def longer_completions(answer):
    """0.3 times two tokens, and 0.25 times a fifth of one."""
    value = number(answer)
    expect(
        abs(value - 6.9) > 1e-3,
        "That is the new mean; by how much has it grown?",
        "这是新的平均长度；问的是增加了多少。",
    )
    expect(
        abs(value - 0.6) > 1e-3,
        "The third number is counted; a slip may lengthen a text as well: 9 becomes 19.",
        "第三个数算到了；失误也可能让文本变长：9 会写成 19。",
    )
    expect(
        abs(value - 0.85) > 1e-3,
        "Not every slip adds a digit: 27 becomes 37.",
        "失误不一定多出一位：27 写成 37。",
    )
    expect(
        abs(value - 0.65) < 1e-3,
        "Count the tokens that a third number adds, and the second numbers that gain a digit by ten.",
        "数一数：第三个数添几个词元；第二个数加十以后，哪些会多出一位。",
    )


@exercise("1.6")
def lines_of_the_masks(answer):
    """Late, padding, early, without E."""
    expect(
        isinstance(answer, str), "The answer is a string of digits.", "答案应是一串数字（字符串）。"
    )
    expect(
        sorted(answer) == list("1234"),
        "Each of the four lines made one mask.",
        "四行各生成一张掩码。",
    )
    a, b, c, d = answer
    expect(
        b == "3",
        "B marks P. Which line never asks where the row ends?",
        "B 标上了 P。哪一行没有问过文本到哪里为止？",
    )
    expect(
        c == "1",
        "C marks one = in each text, the last token of the prompt.",
        "C 在每段里标上了一个 =，它是提示的最后一个词元。",
    )
    expect(
        (a, d) == ("4", "2"),
        "A and D both lack one token a text; only D lacks the E.",
        "A 和 D 每段都少一个词元；少了 E 的只有 D。",
    )
