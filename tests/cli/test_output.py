"""Tables on a terminal: readable at 80 columns, in few columns, and with values that fit nowhere."""

from relay.cli.tables import lay_out

HEAD = ("tenant", "state", "pending", "delivered", "parked", "oldest", "since", "next try", "reason")
ROW = ("GLOBEX_TST", "backing-off", "4", "0", "1", "2 h", "30 min", "in 4 min", "HTTP 503 (IMS code 503): no")
FINE = ("ACME_PRD", "idle", "0", "0", "0", "", "", "", "")


def laid_out(room: int, *rows: tuple[str, ...], head: tuple[str, ...] = HEAD) -> list[str]:
    return [line.plain for line in lay_out(head, rows, room)]


def test_what_fits_stands_in_one_line() -> None:
    assert laid_out(120, ROW)[1] == (
        "GLOBEX_TST  backing-off  4        0          1       2 h     30 min  in 4 min  "
        "HTTP 503 (IMS code 503): no"
    )


def test_at_80_columns_the_reason_stands_beneath_and_none_where_there_is_none() -> None:
    assert laid_out(80, ROW, FINE) == [
        "tenant      state        pending  delivered  parked  oldest  since   next try",
        "    reason",
        "GLOBEX_TST  backing-off  4        0          1       2 h     30 min  in 4 min",
        "    HTTP 503 (IMS code 503): no",
        "ACME_PRD    idle         0        0          0",
    ]


def test_the_last_column_folds_under_itself() -> None:
    lines = laid_out(50, ("ACME_PRD", "one two three four five six seven eight nine ten"), head=("t", "r"))
    assert lines == [
        "t         r",
        "ACME_PRD  one two three four five six seven eight",
        "          nine ten",
    ]


def test_no_line_is_longer_than_the_room() -> None:
    row = (*ROW[:-1], "a long reason, " * 20)
    for room in (40, 60, 80, 100, 132):
        assert max(map(len, laid_out(room, row, FINE))) <= room


def test_no_word_of_a_value_is_lost() -> None:
    told = " ".join(laid_out(40, ROW)).split()
    assert sorted(told) == sorted(" ".join((*HEAD, *ROW)).split())


def test_a_value_that_fits_nowhere_stays_whole() -> None:
    assert laid_out(20, ("x" * 30, "y"), head=("a", "b"))[2:] == ["x" * 30, "    y"]


def test_a_state_has_its_colour() -> None:
    (_, line) = lay_out(("tenant", "state"), [("ACME", "halted")], 80)
    assert [str(span.style) for span in line.spans] == ["red"]
