"""A page of HTML as tests read it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "link", "br", "hr", "input", "source"}


class Page(HTMLParser):
    """The tags of a page, checked for balance on the way."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.verbatim = [], [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in self.CDATA_CONTENT_ELEMENTS:
            self.verbatim.setdefault(self.open[-1], []).append(data)

    def having(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]
