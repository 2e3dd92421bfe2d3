"""Tables on a terminal: readable at 80 columns, in narrower ones, and with values wider than the terminal."""

from relay.cli.output import fit_table

HEAD = ("tenant", "state", "pending", "delivered", "parked", "oldest", "since", "next try", "reason")
ROW = ("GLOBEX_TST", "backing-off", "4", "0", "1", "2 h", "30 min", "in 4 min", "HTTP 503 (IMS code 503): no")
FINE = ("ACME_PRD", "idle", "0", "0", "0", "", "", "", "")


def fitted(width: int, *rows: tuple[str, ...], head: tuple[str, ...] = HEAD) -> list[str]:
    return [line.plain for line in fit_table(head, rows, width)]


def test_a_row_that_fits_is_one_line() -> None:
    assert fitted(120, ROW)[1] == (
        "GLOBEX_TST  backing-off  4        0          1       2 h     30 min  in 4 min  "
        "HTTP 503 (IMS code 503): no"
    )


def test_at_80_columns_the_reason_follows_on_its_own_line_unless_it_is_empty() -> None:
    assert fitted(80, ROW, FINE) == [
        "tenant      state        pending  delivered  parked  oldest  since   next try",
        "    reason",
        "GLOBEX_TST  backing-off  4        0          1       2 h     30 min  in 4 min",
        "    HTTP 503 (IMS code 503): no",
        "ACME_PRD    idle         0        0          0",
    ]


def test_the_last_column_wraps_within_its_column() -> None:
    lines = fitted(50, ("ACME_PRD", "one two three four five six seven eight nine ten"), head=("t", "r"))
    assert lines == [
        "t         r",
        "ACME_PRD  one two three four five six seven eight",
        "          nine ten",
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    row = (*ROW[:-1], "a long reason, " * 20)
    for width in (40, 60, 80, 100, 132):
        assert max(map(len, fitted(width, row, FINE))) <= width


def test_no_word_of_a_value_is_lost() -> None:
    words = " ".join(fitted(40, ROW)).split()
    assert sorted(words) == sorted(" ".join((*HEAD, *ROW)).split())


def test_a_value_wider_than_the_terminal_is_not_cut() -> None:
    assert fitted(20, ("x" * 30, "y"), head=("a", "b"))[2:] == ["x" * 30, "    y"]


def test_a_state_has_its_colour() -> None:
    (_, line) = fit_table(("tenant", "state"), [("ACME", "halted")], 80)
    assert [str(span.style) for span in line.spans] == ["red"]
