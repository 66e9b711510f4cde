"""data/csv_rows.py: single rows change, and all other bytes stay."""

import csv
import io

import pytest

from data.csv_rows import CsvRows

TEXT = ('\ufeffpath,label,note\r\na/1.jpg,glass,"two\r\nlines"\r\n"b,2.jpg", metal ,3\r\n'
        '\r\nc.jpg,"g""l",z')


def edited(path, changed, added=()):
    edit = CsvRows(str(path)).edit(changed, added)
    content = path.read_bytes()
    assert edit.size == len(content)
    assert content[edit.start:edit.start + len(edit.before)] == edit.before
    return (content[:edit.start] + edit.after + content[edit.start + len(edit.before):]).decode()


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "photos.csv"
    path.write_bytes(TEXT.encode())
    return path


def test_labels(table):
    rows = CsvRows(str(table))
    assert [rows.label(name) for name in ("a/1.jpg", "b,2.jpg", "c.jpg", "d.jpg")] == [
        "glass", "metal", 'g"l', None]


def test_a_row_changes_and_all_others_stay(table):
    assert edited(table, {"b,2.jpg": "x,y"}) == TEXT.replace('"b,2.jpg", metal ,3',
                                                             '"b,2.jpg","x,y",3')
    assert edited(table, {"c.jpg": "glass"}) == TEXT.replace('c.jpg,"g""l",z', "c.jpg,glass,z")


def test_rows_go(table):
    assert edited(table, {"a/1.jpg": None}) == TEXT.replace('a/1.jpg,glass,"two\r\nlines"\r\n', "")
    assert edited(table, {"c.jpg": None, "a/1.jpg": None}) == (
        '\ufeffpath,label,note\r\n"b,2.jpg", metal ,3\r\n\r\n')


def test_rows_come(table):
    assert edited(table, {}, [("n,1.jpg", "metal")]) == TEXT + '\r\n"n,1.jpg",metal,\r\n'
    both = edited(table, {"a/1.jpg": "paper"}, [("n.jpg", "metal")])
    rows = list(csv.reader(io.StringIO(both.removeprefix("\ufeff"), newline="")))
    assert rows[1] == ["a/1.jpg", "paper", "two\r\nlines"] and rows[-1] == ["n.jpg", "metal", ""]


def test_other_columns_and_line_ends(tmp_path):
    path = tmp_path / "photos.csv"
    path.write_bytes(b"id,label,path\n7,glass,\xe5\x9b\xbe\\1.jpg\n8,metal,2.jpg\n")
    assert edited(path, {"图/1.jpg": "纸"}, [("3.jpg", "glass")]) == (
        "id,label,path\n7,纸,图\\1.jpg\n8,metal,2.jpg\n,glass,3.jpg\n")
