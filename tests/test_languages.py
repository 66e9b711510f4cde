"""pages/languages.py: the language that was asked for, that of the browser, or the system's."""

import locale

import pytest

from pages import languages
from pages.languages import browser_language, choose_language, system_language


@pytest.mark.parametrize("accept_language, language", [
    ("", "en"), ("zh", "zh"), ("zh-Hans-CN", "zh"), ("ZH-cn", "zh"), ("en-GB,zh", "en"),
    ("de-DE,de;q=0.9,zh;q=0.3", "zh"), ("en;q=0.5,zh;q=0.8", "zh"), ("zh; q = 0.8 , en", "en"),
    ("zh;q=0,*", "en"), ("zh;q=x", "en"), ("fr,*;q=0.1,zh;q=0.5", "zh"), ("zho", "en"),
    (";;,,q", "en"),
])
def test_the_browsers(accept_language, language):
    assert browser_language(accept_language) == language


@pytest.mark.parametrize("environment, language", [
    ({}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh"}, "zh"), ({"LANG": "C"}, "en"),
    ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
    ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW.UTF-8"}, "zh"),
    ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"), ({"LC_ALL": "", "LANG": "zh_SG"}, "zh"),
])
def test_the_systems(environment, language):
    assert system_language(environment) == language


@pytest.mark.parametrize("name, language", [
    ("Chinese (Simplified)_China", "zh"), ("zh_CN", "zh"), ("English_United States", "en"),
    (None, "en"),
])
def test_windows_has_no_such_variables(monkeypatch, name, language):
    monkeypatch.setattr(languages.os, "name", "nt")
    monkeypatch.setattr(locale, "getlocale", lambda: (name, "936"))
    found = system_language({})
    monkeypatch.undo()
    assert found == language


def test_what_was_asked_for_goes_before(monkeypatch):
    monkeypatch.setattr(languages, "system_language", lambda: "zh")
    assert choose_language("en", "zh") == "en" and choose_language("zh") == "zh"
    assert choose_language(None, "en") == "en" and choose_language() == "zh"
