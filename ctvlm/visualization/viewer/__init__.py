"""A page that shows a CT with regions, reasoning steps, findings and similar cases."""

from ctvlm.visualization.viewer.case_page import CasePage, PageCase, PageStep
from ctvlm.visualization.viewer.html import page_html

__all__ = ["CasePage", "PageCase", "PageStep", "page_html"]
