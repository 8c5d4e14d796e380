"""What chapter 14 concludes of the real model fails where the stored runs say something else.

The cells that draw a conclusion are taken from the chapter and run on the stored files, then on files in which arms
are exchanged, a baseline is missing, or numbers say the opposite.
"""

import math

import pytest

import conclusions
import sources

(CHAPTER,) = [path for path in sources.chapters() if path.stem.startswith("14")]
FILES = ("real_theory", "real_file", "real_open", "real_tuning")
CELLS = (  # a line of each, in the chapter's order
    'os.environ["HF_HUB_OFFLINE"]',
    "from dpo_core.rows import row_of as read_row",
    "LABELS = ",
    "problem = {}",
    'words = real["words"]["trained"].index',
    "ROWS = [(",
    "def left(",
    "row_of(word, policy_of(name, beta)",
    "def chosen_moved(",
    "# concluded from the sets",
    "# concluded of the baselines",
    "# concluded of the file",
    "# concluded of what the loss does not say",
    "# concluded of the eleven predictions",
    'free = stored("real_open")',
    "# concluded of the free answers",
    "# concluded of the held-out questions",
    'tuning = stored("real_tuning")',
    "# concluded of the seeds",
    "# concluded of the trials",
)


def conclude(monkeypatch, folder, change=lambda files: None):
    conclusions.conclude(CHAPTER, FILES, CELLS, monkeypatch, folder, change)


def arm(files, name, beta=0.5):
    """A stored run on closed sets."""
    (found,) = [r for r in files["real_theory"]["runs"] if (r["name"], r["beta"]) == (name, beta)]
    return found


def free_arm(files, name):
    (found,) = [r for r in files["real_open"]["runs"] if r["name"] == name]
    return found


def exchange(one, other, beta=0.5):
    """Two arms exchange their names."""

    def change(files):
        first, second = arm(files, one, beta), arm(files, other, beta)
        first["name"], second["name"] = other, one

    return change


def exchange_betas(name, one, other):
    def change(files):
        first, second = arm(files, name, one), arm(files, name, other)
        first["beta"], second["beta"] = other, one

    return change


def drop(name, beta=0.5):
    def change(files):
        gone = arm(files, name, beta)
        files["real_theory"]["runs"] = [r for r in files["real_theory"]["runs"] if r is not gone]

    return change


def untrained(name, beta=0.5, part="trained"):
    """The arm ends where the base model is."""

    def change(files):
        arm(files, name, beta)[part] = files["real_theory"]["base"][part]

    return change


def leak(name, beta, nats, prompts=slice(None)):
    """The mass of some sets is moved; within the sets nothing changes."""

    def change(files):
        table = arm(files, name, beta)["trained"]
        for row in table[prompts]:
            row[:] = [number + nats for number in row]

    return change


def optimal(name, beta, part):
    """The arm's policy on a part is the closed form's."""

    def change(files):
        stored = files["real_theory"]
        rows = zip(stored["base"][part], stored["words"][part])
        arm(files, name, beta)[part] = [
            [logp + ("e" in words[k // 2].lower()) / beta for k, logp in enumerate(row)]
            for row, words in rows
        ]

    return change


def another_program(files):
    """TRL's loss is another one in the last step."""
    arm(files, "trl")["losses"][-1] += 0.01


def steps_missing(files):
    arm(files, "trl")["losses"].pop()


def full_stops(files):
    """Every full stop has become more likely by one nat."""
    for row in arm(files, "soft", 1.0)["trained"]:
        row[1::2] = [number + 1 for number in row[1::2]]


def another_letter(files):
    """The words are others, and so are their rewards."""
    for words in files["real_theory"]["words"]["trained"]:
        words[:] = [word.replace("e", "#") if k % 2 else f"{word}e" for k, word in enumerate(words)]


def exchange_free(files):
    first, second = free_arm(files, "open"), free_arm(files, "open_imitation")
    first["name"], second["name"] = "open_imitation", "open"


def free_as_predicted(files):
    """The free answers' shares are those that theory predicts."""
    stored = files["real_open"]
    draws, growth = stored["settings"]["draws"], math.exp(1 / stored["settings"]["beta"])
    for part in ("trained", "held_out"):
        p = [count / draws for count in stored["base"][part]]
        shares = [growth * x / (growth * x + 1 - x) for x in p]
        free_arm(files, "open")[part] = [round(draws * share) for share in shares]


def free_untrained(name):
    def change(files):
        for part in ("trained", "held_out"):
            free_arm(files, name)[part] = files["real_open"]["base"][part]

    return change


def free_dropped(name):
    def change(files):
        stored = files["real_open"]
        stored["runs"] = [run for run in stored["runs"] if run["name"] != name]

    return change


def trial_that_converged(files):
    """With two passes the loss of the trial falls."""
    for run in files["real_tuning"]["runs"]:
        if run["job"].get("passes") == 2:
            run["last_loss"] = 0.66


def held_out_questions_stay(files):
    free_arm(files, "open")["held_out"] = files["real_open"]["base"]["held_out"]


def flat_loss(files):
    """The loss of the free answers stays where it began."""
    free_arm(files, "open")["losses"] = [math.log(2)] * 64


def another_machine(files):
    """Seed 0 on the GPU is not the recorded run."""
    for run in files["real_tuning"]["runs"]:
        if run["job"]["part"] == "arms" and run["job"]["seed"] == 0:
            run["trained"]["after"] *= 1.5


def without_seed(files):
    runs = files["real_tuning"]["runs"]
    kept = [run for run in runs if run["job"].get("seed") != 2]
    files["real_tuning"]["runs"] = kept


def lucky_seeds(files):
    """All seeds of soft labels at the largest beta keep what was predicted."""
    for run in files["real_tuning"]["runs"]:
        if (run["job"]["kind"], run["job"]["beta"]) == ("soft", 2.0):
            run["trained"]["after"] *= 0.5


def another_setting_was_better(files):
    for run in files["real_tuning"]["runs"]:
        if run["job"]["part"] == "grid" and run["job"]["rate"] == 2e-5:
            run["trained"]["after"] *= 0.1


def file_arm(files, name):
    (found,) = [run for run in files["real_file"]["runs"] if run["name"] == name]
    return found


def exchange_on_file(one, other):
    def change(files):
        first, second = file_arm(files, one), file_arm(files, other)
        first["name"], second["name"] = other, one

    return change


def drawn_labels_on_file(files):
    """What is called soft is the arm with drawn labels."""
    file_arm(files, "soft").update(losses=arm(files, "pairs")["losses"])


def another_file(files):
    """The longer arm began on other pairs."""
    file_arm(files, "longer")["losses"][5] += 0.01


def without(name):
    return lambda files: files["real_file"]["runs"].remove(file_arm(files, name))


CHANGES = {
    "sampled labels for soft ones": exchange("soft", "sampled"),
    "deterministic labels for soft ones": exchange("soft", "deterministic", 2.0),
    "deterministic labels for sampled ones": exchange("sampled", "deterministic", 1.0),
    "imitation for DPO": exchange("soft", "imitation"),
    "imitation for the file of pairs": exchange("pairs", "imitation"),
    "one beta for another": exchange_betas("soft", 0.5, 1.0),
    "no imitation": drop("imitation"),
    "no TRL": drop("trl"),
    "no file of pairs": drop("pairs"),
    "no sampled labels at a beta": drop("sampled", 2.0),
    "no deterministic labels at a beta": drop("deterministic", 0.25),
    "no soft labels at a beta": drop("soft", 1.0),
    "no base model": lambda files: files["real_theory"].pop("base"),
    "an arm that did not train": untrained("soft", 0.25),
    "imitation that did not train": untrained("imitation"),
    "deterministic labels that stop": optimal("deterministic", 1.0, "trained"),
    "a file of pairs that is enough": optimal("pairs", 0.5, "trained"),
    "on the file, imitation for soft labels": exchange_on_file("soft", "imitation"),
    "on the file, soft labels that are drawn": drawn_labels_on_file,
    "on the file, four passes that are the best": exchange_on_file("soft", "longer"),
    "on the file, four passes over other pairs": another_file,
    "on the file, no imitation": without("imitation"),
    "TRL ends elsewhere": untrained("trl"),
    "TRL has another loss": another_program,
    "TRL has fewer steps": steps_missing,
    "full stops that move": full_stops,
    "another letter": another_letter,
    "mass that falls at small beta": leak("soft", 0.25, -1.0),
    "mass that rises at large beta": leak("soft", 2.0, 0.5),
    "mass that goes one way at beta 1": leak("soft", 1.0, 0.5),
    "imitation that leaks on one prompt": leak("imitation", 0.5, -2.0, slice(3, 4)),
    "chosen answers that fall": leak("soft", 0.5, -1.0),
    "chosen answers that rise": leak("deterministic", 0.5, 1.0),
    "held-out prompts that follow": optimal("soft", 0.25, "held_out"),
    "held-out prompts that follow at one beta": optimal("soft", 0.5, "held_out"),
    "held-out prompts that stay": untrained("soft", 2.0, "held_out"),
    "free answers as predicted": free_as_predicted,
    "free answers that stay": free_untrained("open"),
    "imitation of free answers that stays": free_untrained("open_imitation"),
    "imitation for DPO on free answers": exchange_free,
    "no imitation of free answers": free_dropped("open_imitation"),
    "no DPO on free answers": free_dropped("open"),
    "a loss of free answers that stays": flat_loss,
    "held-out questions that stay": held_out_questions_stay,
    "a trial that converged": trial_that_converged,
    "another machine, other numbers": another_machine,
    "a seed missing": without_seed,
    "seeds that are all lucky": lucky_seeds,
    "a better setting left out": another_setting_was_better,
}


def test_the_stored_runs_carry_the_conclusions(monkeypatch, tmp_path):
    conclude(monkeypatch, tmp_path)


@pytest.mark.parametrize("name", CHANGES)
def test_other_runs_do_not(monkeypatch, tmp_path, name):
    """Guards against assertions that would let any result pass."""
    with pytest.raises((AssertionError, ValueError, KeyError, IndexError)):
        conclude(monkeypatch, tmp_path, CHANGES[name])
