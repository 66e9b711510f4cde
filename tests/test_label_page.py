"""The page of --mode label in a browser, against the command itself."""

import os
import time

import pytest
from browser import needs_chromium
from conftest import write_image
from label_page import Page

from common.tables import write_table
from other.reporting import doubtful_labels

pytestmark = needs_chromium



@pytest.fixture
def photos(tmp_path):
    """Twelve without a class, and two classes with a photo each."""
    root = tmp_path / "photos"
    for seed, name in enumerate(["glass/a.png", "metal/b.png",
                                 *(f"_unsorted/{i:02}.png" for i in range(12))]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, seed=seed)
    return root


@pytest.fixture
def page(photos, tmp_path):
    opened = Page(photos, tmp_path / "profile")
    yield opened
    opened.close()
    assert not opened.browser.problems


def names(folder):
    return sorted(path.name for path in folder.glob("*.png"))


def test_keys_label_one_photo_after_another(page, photos):
    assert page.browser.evaluate("document.querySelectorAll('.cell').length") == 12
    for key in "1221":
        page.press(key)
    page.settled()
    assert names(photos / "glass") == ["00.png", "03.png", "a.png"]
    assert names(photos / "metal") == ["01.png", "02.png", "b.png"]
    assert page.browser.evaluate("find('progress').textContent") == "6 of 14 photos have a class"
    page.press("z", modifiers=2)
    page.settled()
    page.browser.wait("ids.length === 9")
    assert names(photos / "glass") == ["00.png", "a.png"]
    assert page.browser.evaluate("baseName(photos.get(ids[cursor]).path)") == "03.png"
    page.press("z", modifiers=2 + 8)
    page.settled()
    assert names(photos / "glass") == ["00.png", "03.png", "a.png"]


def test_many_are_selected_by_dragging_and_by_keys(page, photos):
    box = page.browser.evaluate(
        "(() => {const b = document.querySelector('#photo-' + ids[0]).getBoundingClientRect(),"
        " c = document.querySelector('#photo-' + ids[2]).getBoundingClientRect();"
        " return [b.left - 3, b.top - 3, c.right - 9, c.bottom - 9]})()")
    page.mouse(box[:2], [(box[0] + box[2]) / 2, box[3]], box[2:])
    assert page.browser.evaluate("chosen.size") == 3
    page.press("2")
    page.settled()
    assert names(photos / "metal") == ["00.png", "01.png", "02.png", "b.png"]
    page.press("ArrowRight", modifiers=8)
    page.press("ArrowRight", modifiers=8)
    page.press("1")
    page.press("a", modifiers=2)
    page.press("Delete")
    page.settled()
    assert names(photos / "glass") == ["03.png", "04.png", "05.png", "a.png"]
    assert names(photos / "_removed") == [f"{i:02}.png" for i in range(6, 12)]
    assert "All photos have a class." in page.browser.evaluate("find('empty').innerText")


def test_new_class_and_a_name_that_no_folder_can_have(page, photos):
    for name, seen in (
            ("..", "find('notice').textContent.includes('no folder can have the name')"),
            ("wood", "classes.some(one => one.name === 'wood' && one.count === 1)")):
        page.press("+")
        page.browser.wait("find('naming').open")
        page.browser.evaluate(f"find('naming-name').value = '{name}'")
        page.browser.press("Enter", 13)
        page.browser.wait(seen)
        page.settled()
    assert names(photos / "wood") == ["00.png"] and len(names(photos / "_unsorted")) == 11


def test_the_large_view_has_an_undo_of_its_own(page, photos):
    page.press(" ")
    page.press("1")
    page.settled()
    assert names(photos / "glass") == ["00.png", "a.png"]
    page.browser.evaluate("find('large-undo').click()")
    page.settled()
    page.browser.wait("find('large-about').textContent.includes('00.png')")
    assert page.browser.evaluate("large.open && find('large-undo').disabled")
    assert names(photos / "glass") == ["a.png"]
    page.press("2")
    page.settled()
    assert names(photos / "metal") == ["00.png", "b.png"]


def test_classes_are_renamed_and_merged(page, photos):
    for old, new in (("glass", "bottle"), ("bottle", "metal")):
        page.browser.evaluate(f"document.querySelector('[data-focus=\"rename {old}\"]').click()")
        page.browser.evaluate(f"find('naming-name').value = '{new}'")
        page.browser.press("Enter", 13)
        page.browser.wait("!find('naming').open")
        page.settled()
        page.browser.wait(f"!classes.some(one => one.name === '{old}')")
        assert "a.png" in names(photos / new) and not (photos / old).exists()


def test_large_skip_and_no_class(page, photos):
    page.press(" ")
    page.browser.wait("large.open && large.querySelector('img').naturalWidth === 40")
    page.press("1")
    page.browser.wait("find('large-about').textContent.startsWith('_unsorted/01.png')")
    page.press("ArrowRight")
    page.press("2")
    page.press(" ")
    page.browser.wait("!large.open")
    page.press("Home")
    page.press(".")
    page.settled()
    assert page.browser.evaluate("baseName(photos.get(ids.at(-1)).path)") == "01.png"
    assert names(photos / "glass") == ["00.png", "a.png"]
    assert names(photos / "metal") == ["02.png", "b.png"]
    page.browser.evaluate("openQueue('class:glass')")
    page.browser.wait("ids.length === 2")
    page.press("End")
    page.press("0")
    page.settled()
    assert len(names(photos / "_unsorted")) == 11


def test_new_photos_appear_and_those_that_go_disappear(page, photos):
    write_image(photos / "_unsorted" / "new.png")
    (photos / "_unsorted" / "05.png").unlink()
    shown = "ids.map(id => baseName(photos.get(id)?.path ?? ''))"
    page.browser.wait(f"{shown}.includes('new.png') && !{shown}.includes('05.png')")
    assert page.browser.evaluate("ids.length") == 12


def test_killed_at_any_moment_and_started_again(page, photos):
    """What was confirmed is there, nothing is there twice, and undo leads to the beginning."""
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    confirmed = 0
    for moment in range(4):
        for _ in range(3):
            page.press("1")
        time.sleep(0.01 * moment)
        page.kill()
        confirmed += page.browser.evaluate("3 - outbox.length")
        page.browser.evaluate("outbox.length = 0")
        page.start()
        assert len(names(photos / "glass")) - 1 >= confirmed
        confirmed = len(names(photos / "glass")) - 1
        assert len([*photos.rglob("*.png")]) == len(before)
    while page.browser.evaluate("state.undoable"):
        page.press("z", modifiers=2)
        page.settled()
        page.browser.evaluate("refresh()")
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == before


def test_nothing_answers(page, photos):
    page.press("1")
    page.settled()
    page.kill()
    page.press("2")
    page.browser.wait("find('notice').textContent.includes('that wait here: 1')")
    page.browser.evaluate("outbox.length = 0")


def test_doubtful_labels_are_corrected_with_one_key_each(photos, tmp_path):
    table = tmp_path / "report.csv"
    write_table(table, doubtful_labels.COLUMNS, [
        [str(photos / "glass" / "a.png"), "glass", "metal", "0.1", "0.9", "prediction", ""]])
    page = Page(photos, tmp_path / "profile", "--csv", str(table), "--queue", "doubtful")
    try:
        assert page.browser.evaluate("queue") == "doubtful"
        page.browser.wait("document.querySelector('.guess')?.textContent === 'metal?'")
        page.press("Enter")
        page.settled()
        assert names(photos / "metal") == ["a.png", "b.png"]
        assert page.browser.evaluate("ids.length") == 0
    finally:
        page.close()


def test_a_list_begins_with_its_first_photo(page, photos):
    """Wherever the first one of the last list is in it."""
    for i in range(30):
        write_image(photos / "glass" / f"0{i:02}.png", seed=i)
    page.browser.wait("classes.find(one => one.name === 'glass').count === 31")
    page.browser.evaluate("openQueue('class:glass')")
    page.browser.wait("ids.length === 31 && photos.has(ids[30])")
    page.browser.evaluate("setIds([...ids].reverse()); openQueue('class:glass')")
    page.browser.wait("ids.length === 31")
    assert page.browser.evaluate("cursor") == 0


def test_a_label_that_fails_is_taken_back_and_said(page, photos):
    (photos / "metal" / "b.png").unlink()
    (photos / "metal").rmdir()
    (photos / "metal").write_bytes(b"no folder")
    page.browser.evaluate("label('metal'); label('glass'); label('glass')")
    page.settled()
    page.browser.wait("document.querySelector('.cell') && !reading")
    assert "metal" in page.browser.evaluate("find('notice').textContent")
    page.browser.wait("photos.get(ids[0])?.path === '_unsorted/00.png'")
    assert page.browser.evaluate("photos.get(ids[0]).name") is None
    assert names(photos / "glass") == ["01.png", "02.png", "a.png"]


def test_new_class_is_for_the_photo_that_was_chosen(page, photos):
    """Also if the server answers late, and writes the name in another way."""
    page.press("+")
    page.browser.wait("find('naming').open")
    page.browser.evaluate("find('naming-name').value = 'waste / cafe\u0301'")
    page.browser.evaluate("find('naming').close('go'); moveTo(3)")
    page.settled()
    page.browser.wait("ids.length === 11")
    page.settled()
    assert names(photos / "waste" / "caf\xe9") == ["00.png"]


def test_keys_after_the_size_was_changed(page, photos):
    page.browser.evaluate("find('size').focus()")
    page.press("1")
    page.settled()
    assert names(photos / "glass") == ["00.png", "a.png"]


def test_a_key_that_is_held_down_labels_one_photo(page, photos):
    for repeated in (False, True, True):
        page.browser.call("Input.dispatchKeyEvent", type="keyDown", key="1", text="1",
                          windowsVirtualKeyCode=49, autoRepeat=repeated)
    page.settled()
    assert names(photos / "glass") == ["00.png", "a.png"]


def test_answers_that_come_late_bring_nothing_back(page):
    """The list of before a label, and the state of before it."""
    page.browser.evaluate("""(async () => {
        const old = fetch, late = [];
        window.fetch = async (...request) => {
            const answer = await old(...request);
            if (/state|queue/.test(request[0])) await new Promise(go => late.push(go));
            return answer;
        };
        const both = [refresh(), readQueue()];
        while (late.length < 2) await sleep(10);
        window.fetch = old;
        label('glass');
        while (outbox.length || sending) await sleep(10);
        await refresh();
        late.forEach(go => go());
        await Promise.all(both);
    })()""")
    assert page.browser.evaluate("ids.length") == 11
    assert page.browser.evaluate("state.queues.unsorted") == 11


def test_many_photos_undone_at_once(page, photos):
    """More than the server tells one by one."""
    for i in range(2100):
        os.link(photos / "_unsorted" / "00.png", photos / "_unsorted" / f"x{i:04}.png")
    page.browser.wait("ids.length === 2112")
    page.press("End")
    page.browser.wait("!reading && photos.has(ids.at(-1))")
    page.press("a", modifiers=2)
    page.press("1")
    page.settled()
    page.press("z", modifiers=2)
    page.settled()
    page.browser.wait("ids.length === 2112")
    page.press("End")
    page.browser.wait("!reading && photos.get(ids.at(-1))?.name === null")


def test_photos_without_a_class_are_the_first_list(page, photos):
    page.press("Delete")
    page.settled()
    page.browser.wait("document.querySelectorAll('#queues button').length === 2")
    shown = page.browser.evaluate("[...find('queues').querySelectorAll('button')]"
                                  ".map(button => button.dataset.queue)")
    assert shown == ["unsorted", "removed"]


def test_keys_are_legible_on_a_narrow_page(page):
    page.browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740,
                      deviceScaleFactor=1, mobile=False)
    page.press("?")
    page.browser.wait("find('helping').open")
    width = "Math.min(...[...document.querySelectorAll('#helping dd')].map(one => one.clientWidth))"
    assert page.browser.evaluate(width) > 100


def test_suggestions_of_all_are_taken_also_out_of_sight(photos, tmp_path):
    for i in range(120):
        os.link(photos / "glass" / "a.png", photos / "glass" / f"{i:03}.png")
    table = tmp_path / "report.csv"
    write_table(table, doubtful_labels.COLUMNS, [
        [str(photos / "glass" / f"{i:03}.png"), "glass", "wood" if i % 2 else "metal", "0.1",
         "0.9", "prediction", ""] for i in range(120)])
    page = Page(photos, tmp_path / "profile", "--csv", str(table), "--queue", "doubtful")
    try:
        page.browser.wait("!!document.querySelector('.guess')")
        page.press("a", modifiers=2)
        page.press("Enter")
        page.browser.wait("ids.length === 0")
        page.settled()
        assert len(names(photos / "metal")) == 61 and len(names(photos / "wood")) == 60
    finally:
        page.close()


def test_names_are_text_and_never_html(tmp_path):
    name = "<img src=x onerror=document.title='broken'>"
    root = tmp_path / "photos"
    for folder, file in (("a", "1.png"), ("_unsorted", "&lt;b&gt;<b>.png")):
        (root / folder).mkdir(parents=True)
        write_image(root / folder / file)
    os.rename(root / "a", root / name)
    page = Page(root, tmp_path / "profile", "--lang", "zh")
    try:
        shown = page.browser.evaluate("document.querySelector('.row.class .name').textContent")
        assert shown == name
        page.press("1")
        page.settled()
        assert names(root / name) == ["&lt;b&gt;<b>.png", "1.png"]
        assert page.browser.evaluate("document.title") == "标注：photos"
        assert not page.browser.problems
    finally:
        page.close()
