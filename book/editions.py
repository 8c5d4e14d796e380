"""The two editions and the words that the site itself says in each: what Sphinx and the theme leave open."""

import re
from dataclasses import dataclass

# How MathJax sets formulas in both editions. As high as the letters beside them, without measuring these: their font
# may come late, and what was measured until then stays too large.
FORMULAS = {"mtextInheritFont": True, "matchFontHeight": False, "scale": 1.075}


@dataclass(frozen=True)
class Edition:
    lang: str  # the `lang` of its cells, its folder on the site, its tag for Sphinx
    name: str  # the language, in the language itself
    html_lang: str
    sphinx_language: str
    title: str
    tagline: str
    on_the_cover: str  # what its picture shows
    cover_alt: str  # the same for those who do not see it
    switch: str  # shown in the *other* edition, where it leads here
    part: str  # "Part I"
    appendices: str
    notebook: str
    bilingual: str
    notebook_hint: str
    run_there: str  # on somebody else's machine: Colab, Binder
    slides: str
    next_slide: str
    previous_slide: str
    slide_keys: str  # what the keyboard does in a deck
    read_chapter: str  # leads from a deck to the chapter
    next_chapter: str
    search_prompt: str
    color_mode: str
    color_modes: tuple[str, str, str]  # as the system, light, dark
    navigation: str
    previous: str
    next: str
    show_code: str
    hide_code: str
    checked: str  # what a folded proof says that does not say more
    second_reading: str  # how long a section marked ⋆ is
    to_exercise: str
    to_solution: str  # on paper, where no solution is folded
    contents: str  # what stands above the list of chapters
    on_page: str  # "page 12"
    cover: str  # what the cover's picture is
    cited_in: str
    chapter: str  # "chapter 3"
    equation: str  # "equation 7.3", as a text says it
    equation_title: str  # the same as a title
    in_glossary: str  # leads from the card of a term to the glossary
    works: str  # the list of references
    onward: str  # from any other card to the thing itself
    read: str  # what was read to its end
    read_part: str  # a chapter of which some sections were
    read_last: str  # leads back to the place
    read_where: str  # who knows of it
    forget: str
    comma: str  # between the members of a list
    and_others: str
    colophon: str
    colophon_paper: str  # what the PDF and the EPUB say besides
    access: str  # what the EPUB has for readers who do not see it
    download: str

    @property
    def taglines(self) -> list[str]:
        """What the book is, and whence it leads whither."""
        return re.split(r": |：", self.tagline.rstrip(".。"))

    @property
    def other(self) -> "Edition":
        """The same book in the other language."""
        return ZH if self is EN else EN


EN = Edition(
    lang="en",
    name="English",
    html_lang="en",
    sphinx_language="en",
    title="DPO from Zero",
    tagline="A textbook that runs: from a character tokenizer to a language model trained on preferences.",
    cover_alt="The cover: lines that rise from one band of points to another.",
    on_the_cover="Lines: computed, nothing trained. Points: what the two networks do.",
    switch="Read this page in English",
    part="Part {}",
    appendices="Appendices",
    notebook="Notebook",
    bilingual="both languages",
    notebook_hint="Save it in the project's chapters/ folder and open it in Jupyter.",
    run_there="Run it on {}, in English",
    slides="Slides",
    next_slide="Next slide",
    previous_slide="Previous slide",
    slide_keys="→ next · S notes in a window of their own · N notes beside the slide · O overview · F full screen · D dark",
    read_chapter="Read the chapter",
    next_chapter="Next chapter",
    search_prompt="Search the book",
    color_mode="Light or dark",
    color_modes=("As the system", "Light", "Dark"),
    navigation="Chapters",
    previous="Previous",
    next="Next",
    show_code="Show the code",
    hide_code="Hide the code",
    checked="Checked in code",
    second_reading="Second reading · {} min",
    to_exercise="Back to the exercise",
    to_solution="Solution in the appendix",
    contents="Contents",
    on_page="page {}",
    cover="The cover of the book",
    cited_in="Cited in",
    chapter="chapter {}",
    equation="equation {}",
    equation_title="Equation {}",
    in_glossary="Glossary",
    works="References",
    onward="Go there",
    read="read",
    read_part="{read} of {of} sections read",
    read_last="Last read:",
    read_where="remembered in this browser only",
    forget="Forget",
    comma=", ",
    and_others="et al.",
    colophon="Code under the MIT licence, text and figures under CC BY 4.0.",
    colophon_paper="This book is also a website and a set of notebooks that run, in English and in Chinese.",
    access="Formulas are MathML, pictures have descriptions, and the order of the text is the order of reading.",
    download="Download the book",
)

ZH = Edition(
    lang="zh",
    name="中文",
    html_lang="zh-CN",
    sphinx_language="zh_CN",
    title="从零推导 DPO",
    tagline="一本能运行的教科书：从逐字符的分词器，到用偏好训练的语言模型。",
    cover_alt="封面：一组线从下面的一串点升到上面的一串点。",
    on_the_cover="线：算出来的，没有训练。点：两个网络实际的表现。",
    switch="阅读本页的中文版",
    part="第{}部分",
    appendices="附录",
    notebook="笔记本",
    bilingual="双语",
    notebook_hint="存到项目的 chapters/ 目录，用 Jupyter 打开。",
    run_there="在 {} 上运行中文版",
    slides="幻灯片",
    next_slide="下一张",
    previous_slide="上一张",
    slide_keys="→ 下一张 · S 另开窗口看备注 · N 备注显示在旁边 · O 总览 · F 全屏 · D 深色",
    read_chapter="阅读本章",
    next_chapter="下一章",
    search_prompt="搜索全书",
    color_mode="浅色或深色",
    color_modes=("跟随系统", "浅色", "深色"),
    navigation="各章",
    previous="上一页",
    next="下一页",
    show_code="展开代码",
    hide_code="收起代码",
    checked="由代码验证",
    second_reading="第二遍再读 · {} 分钟",
    to_exercise="回到这道练习",
    to_solution="解答见附录",
    contents="目录",
    on_page="第 {} 页",
    cover="本书封面",
    cited_in="引用于",
    chapter="第 {} 章",
    equation="式 {}",
    equation_title="式 {}",
    in_glossary="术语表",
    works="参考文献",
    onward="前往",
    read="已读",
    read_part="共 {of} 节，已读 {read} 节",
    read_last="上次读到",
    read_where="只记在这个浏览器里",
    forget="清除记录",
    comma="、",
    and_others="等",
    colophon="代码采用 MIT 许可证，正文与插图采用 CC BY 4.0。",
    colophon_paper="本书另有网站和一套可以运行的笔记本，中英文俱全。",
    access="公式用 MathML，图片有文字说明，文字的先后就是阅读的先后。",
    download="下载全书",
)

EDITIONS = {edition.lang: edition for edition in (EN, ZH)}
