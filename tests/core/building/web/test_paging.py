from polyvec.data.building.web.paging import page_breaks


def lines(*tops, height=10):
    return [(top, top + height, False) for top in tops]


def test_a_short_document_is_one_page_with_a_margin():
    assert page_breaks(lines(0, 20, 40), 100) == [(0, 74)]


def test_nothing_is_no_page():
    assert page_breaks([], 100) == []


def test_a_page_ends_in_the_middle_of_the_last_gap():
    # 90 to 110 does not fit; the gap before it is 60 to 90, and half of that is less than the margin of 24
    assert page_breaks([*lines(0, 30, 50), (90, 110, False), *lines(120)], 100) == [(0, 75), (75, 154)]


def test_no_line_is_cut():
    # 12 lines of 17 pixels; lines 0 to 4 end at 85, line 5 begins there and would end at 102
    boxes = [(17.0 * number, 17.0 * (number + 1), False) for number in range(12)]
    pages = page_breaks(boxes, 100)
    assert pages == [(0, 85), (85, 170), (170, 228)]


def test_a_heading_stays_with_what_follows():
    boxes = [*lines(0, 20, 40), (70, 85, True), *lines(95, 115, 135)]
    assert page_breaks(boxes, 100)[0] == (0, 60)  # half of the gap from 50 to 70, before the heading
    assert page_breaks([(top, bottom, False) for top, bottom, _ in boxes], 100)[0] == (0, 90)


def test_lines_of_columns_that_alternate_are_cut_where_fewest_are():
    left, right = lines(*range(0, 200, 12), height=11), lines(*range(6, 200, 12), height=11)
    (first, *_) = page_breaks(left + right, 100)
    assert 50 < first[1] <= 100


def test_what_is_higher_than_a_page_is_cut():
    assert page_breaks([(0, 250, False)], 100) == [(0, 100), (100, 200), (200, 274)]


def test_an_image_that_does_not_fit_begins_a_page():
    assert page_breaks([*lines(0, 50), (80, 170, False)], 100) == [(0, 70), (70, 170)]


def test_blank_space_is_left_out():
    assert page_breaks([*lines(0), *lines(1000)], 100) == [(0, 100), (976, 1034)]
