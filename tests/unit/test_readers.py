"""Readers: every row once, in order, in batches; and clear words where a source is at fault."""

import gzip
import sqlite3
from pathlib import Path

import httpx
import polars as pl
import pytest

from majlis.data.readers import Pages, read_files, read_rest, read_sql
from majlis.errors import Invalid, NotFound, Unavailable


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    pl.DataFrame({"n": [3]}).write_parquet(tmp_path / "c.parquet")
    (tmp_path / "a.csv").write_text("n\n1\n")
    (tmp_path / "b.ndjson").write_text('{"n": 2}\n')
    assert [batch["n"].to_list() for batch in read_files(tmp_path)] == [[1], [2], [3]]


def test_a_file_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("not parquet")
    with pytest.raises(Invalid, match="a.parquet cannot be read"):
        list(read_files(tmp_path))
    with pytest.raises(NotFound, match=r"matches '\*.csv'"):
        list(read_files(tmp_path, "*.csv"))


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (n integer, s text)")
        connection.executemany(
            "insert into t values (?, ?)", [(n, None if n < 3 else str(n)) for n in range(7)]
        )
    connection.close()
    return f"sqlite:///{path}"


@pytest.mark.parametrize("batch_rows", [1, 3, 7, 100])
def test_a_query_gives_every_row_once(database: str, batch_rows: int) -> None:
    batches = list(read_sql(database, "select * from t order by n", batch_rows=batch_rows))
    assert [n for batch in batches for n in batch["n"]] == list(range(7))
    assert max(batch.height for batch in batches) <= batch_rows


def test_a_query_without_rows_still_has_columns(database: str) -> None:
    (batch,) = read_sql(database, "select * from t where n > :n", {"n": 99})
    assert (batch.height, batch.columns) == (0, ["n", "s"])


def test_values_are_parameters(database: str) -> None:
    found = list(read_sql(database, "select n from t where s = :s", {"s": "3' or '1'='1"}))
    assert found[0].is_empty()


def test_what_a_query_changes_is_rolled_back(database: str) -> None:
    list(read_sql(database, "insert into t values (99, 'x') returning n"))
    assert [batch.height for batch in read_sql(database, "select * from t")] == [7]


def test_a_password_never_reaches_an_error() -> None:
    with pytest.raises(Unavailable) as caught:
        list(read_sql("postgresql+psycopg://u:s3cret@127.0.0.1:1/x?connect_timeout=1", "select 1"))
    assert "s3cret" not in str(caught.value) and "127.0.0.1" in str(caught.value)


def served(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A server that gives these answers one after the other, and what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = answers[len(asked) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.MockTransport(answer), asked


def page(*numbers: int, **more: object) -> httpx.Response:
    return httpx.Response(200, json={"items": [{"n": number} for number in numbers], **more})


def numbers(pages: Pages, transport: httpx.MockTransport) -> list[int]:
    return [
        n
        for batch in read_rest("https://api.example.com/v1/rows?year=2013", pages, transport)
        for n in batch["n"]
    ]


def test_links_in_the_answer_are_followed() -> None:
    transport, asked = served(
        page(1, 2, next="/v1/rows?after=2"), page(next="rows?after=3"), page(3, next=None)
    )
    assert numbers(Pages(rows="items", following="next"), transport) == [1, 2, 3]
    assert [str(request.url) for request in asked[1:]] == [
        "https://api.example.com/v1/rows?after=2",
        "https://api.example.com/v1/rows?after=3",
    ]


def test_links_in_the_header_are_followed() -> None:
    first = httpx.Response(200, json=[{"n": 1}], headers={"Link": '</v1/rows?page=2>; rel="next"'})
    transport, asked = served(first, httpx.Response(200, json=[{"n": 2}]))
    assert numbers(Pages(), transport) == [1, 2]
    assert len(asked) == 2


def test_pages_are_counted_until_one_is_empty() -> None:
    transport, asked = served(page(1), page(2), page())
    assert numbers(Pages(rows="items", counted="page", first=0), transport) == [1, 2]
    assert [dict(request.url.params) for request in asked] == [
        {"year": "2013", "page": str(n)} for n in range(3)
    ]


def test_another_host_is_not_followed() -> None:
    transport, asked = served(page(1, next="https://evil.example.net/rows"))
    with pytest.raises(Invalid, match=r"another host, evil\.example\.net"):
        numbers(Pages(rows="items", following="next", headers={"Authorization": "Bearer x"}), transport)
    assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_come_back_later_is_obeyed(status: int) -> None:
    busy = [httpx.Response(status, headers={"Retry-After": "0"}) for _ in range(2)]
    transport, asked = served(*busy, page(1))
    assert numbers(Pages(rows="items"), transport) == [1]
    assert len(asked) == 3


def test_attempts_end() -> None:
    transport, asked = served(*(httpx.Response(503, headers={"Retry-After": "0"}) for _ in range(3)))
    with pytest.raises(Unavailable, match="answered 503"):
        numbers(Pages(rows="items", attempts=3), transport)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (httpx.Response(404), Unavailable, "answered 404 Not Found"),
        (httpx.Response(302, headers={"Location": "/login"}), Unavailable, "answered 302"),
        (httpx.ConnectError("refused"), Unavailable, "does not answer: refused"),
        (httpx.Response(200, text="<html>"), Invalid, "is not JSON"),
        (httpx.Response(200, json={"rows": []}), Invalid, "no list at 'items'"),
        (httpx.Response(200, json=[1]), Invalid, "no list at 'items'"),
    ],
)
def test_what_is_no_page_is_told(
    answer: httpx.Response | Exception, error: type[Exception], said: str
) -> None:
    transport, _ = served(answer)
    with pytest.raises(error, match=said):
        numbers(Pages(rows="items"), transport)


def test_an_interface_that_never_ends_is_left() -> None:
    transport, asked = served(*(page(n, next="/v1/rows") for n in range(5)))
    with pytest.raises(Invalid, match="more than 3 pages"):
        numbers(Pages(rows="items", following="next", most=3), transport)
    assert len(asked) == 3


def test_the_type_of_a_column_is_that_of_all_its_values(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("price,note\n" + "12,\n" * 5000 + "12.5,late\n")
    (tmp_path / "prices.jsonl").write_text('{"price": 12}\n' * 5000 + '{"price": 12.5, "note": "late"}\n')
    (tmp_path / "prices.tsv").write_text("price\tnote\n" + "12\t\n" * 5000 + "12.5\tlate\n")
    for batch in read_files(tmp_path):
        assert batch.schema == {"price": pl.Float64, "note": pl.String}
        assert batch.row(-1) == (12.5, "late")


@pytest.mark.parametrize("name", ["A.CSV", "a.csv.gz", "a.json", "a.tsv"])
def test_a_file_is_read_for_what_its_name_says(tmp_path: Path, name: str) -> None:
    written = {".json": '[{"n": 1}]', ".tsv": "n\n1\n"}.get(Path(name).suffix, "n\n1\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(written) if name.endswith(".gz") else written)
    for place in (tmp_path, str(tmp_path), tmp_path / name):
        assert [batch.rows() for batch in read_files(place)] == [[(1,)]]


def test_how_a_file_is_written_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("name;n\nJosé;NA\n".encode("latin-1"))
    (batch,) = read_files(tmp_path, separator=";", encoding="latin1", null_values=["NA"])
    assert batch.rows() == [("José", None)]
    with pytest.raises(Invalid, match="separator"):
        list(read_files(tmp_path))
    with pytest.raises(Invalid, match="seperator"):
        list(read_files(tmp_path, seperator=";"))


@pytest.mark.parametrize("url", ["nonsense", "sqlite+nodriver:///x", "nosuch://user:secret@host/name"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="cannot be used") as refused:
        list(read_sql(url, "select 1"))
    assert "secret" not in str(refused.value)
