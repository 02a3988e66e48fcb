package main

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

func TestReport_ShowsEachOperationOnceAcrossPages(t *testing.T) {
	t.Parallel()
	w := start(t)
	ch := "/v1/charges/" + w.captured()
	for i := range 5 {
		expect(t, w.call("POST", ch+"/refund", fmt.Sprint(i), `{"amount":{"minor":10,"currency":"GBP"}}`), 200, "")
	}
	// What is younger than the clock's millisecond is not shown yet.
	await(t, "all lines", func() bool { return len(w.call("GET", "/v1/report", "", "").list(t)) == 7 })

	seen, kinds, cursor := map[any]bool{}, "", ""
	for pages := 0; ; pages++ {
		page := w.call("GET", "/v1/report?limit=3&cursor="+cursor, "", "")
		for _, l := range page.list(t) {
			seen[l["id"]] = true
			kinds += l["kind"].(string)[:1]
		}
		if cursor = page.text("next_cursor"); cursor == "" {
			equal(t, "pages", pages+1, 3)
			break
		}
	}
	equal(t, "lines", len(seen), 7)
	equal(t, "kinds in order", kinds, "acrrrrr")
	last := w.call("GET", "/v1/report?limit=7", "", "")
	equal(t, "cursor of a full last page", last.text("next_cursor"), "")
	equal(t, "merchant", last.list(t)[1]["merchant_id"], any("mer_acme"))
}

func TestReport_StartsAtSince(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.captured()
	since := time.Now().Add(time.Millisecond)
	await(t, "the next millisecond", func() bool { return time.Now().After(since.Add(time.Millisecond)) })
	w.captured()
	await(t, "all lines", func() bool { return len(w.call("GET", "/v1/report", "", "").list(t)) == 4 })
	later := w.call("GET", "/v1/report?since="+url.QueryEscape(since.Format(time.RFC3339Nano)), "", "")
	equal(t, "lines since", len(later.list(t)), 2)
	equal(t, "lines since tomorrow", len(w.call("GET", "/v1/report?since=2999-01-01T00:00:00Z", "", "").list(t)), 0)
	equal(t, "lines since the flood", len(w.call("GET", "/v1/report?since=0001-01-01T00:00:00Z", "", "").list(t)), 4)
	for _, query := range []string{"since=yesterday", "cursor=7", "limit=0", "limit=1001"} {
		equal(t, query, w.call("GET", "/v1/report?"+query, "", "").status, 422)
	}
}

func TestReport_LiesAsTheRulesSay(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.captured()
	await(t, "all lines", func() bool { return len(w.call("GET", "/v1/report", "", "").list(t)) == 2 })
	expect(t, w.call("PUT", "/faults", "", `{"rules":[{"contract":"report","fault":"bad_line","times":1},{"contract":"report","fault":"wrong_date","times":1}]}`), 200, "")
	equal(t, "lines with a bad one", len(w.call("GET", "/v1/report", "", "").list(t)), 3)
	for _, line := range w.call("GET", "/v1/report", "", "").list(t) {
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(line["at"])); err != nil || at.Before(time.Now().AddDate(99, 0, 0)) {
			t.Errorf("%v: %v", line, err)
		}
	}
	equal(t, "lines when it behaves again", len(w.call("GET", "/v1/report", "", "").list(t)), 2)
	equal(t, "another fault", w.call("PUT", "/faults", "", `{"rules":[{"contract":"report","fault":"refuse"}]}`).status, 422)
}

// A line that is shown while an older one is still being committed lets a
// reader pass the older one for good.
func TestReport_HoldsBackLinesYoungerThanItsLag(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *settings) { s.ReportLag = time.Hour })
	w.captured()
	expect(t, w.call("POST", "/bank/transfers", "", `{"reference":"r","amount":{"minor":1,"currency":"GBP"},"account":"a"}`), 201, "")
	equal(t, "report", len(w.call("GET", "/v1/report", "", "").list(t)), 0)
	equal(t, "statement", len(w.call("GET", "/bank/statement", "", "").list(t)), 0)
}

func TestBank_CannotTellARetryFromASecondTransfer(t *testing.T) {
	t.Parallel()
	w := start(t)
	body := `{"reference":"pyo_1","amount":{"minor":500,"currency":"JPY"},"account":"GB00 1234"}`
	expect(t, w.call("POST", "/bank/transfers", "ignored", body), 201, "")
	expect(t, w.call("POST", "/bank/transfers", "ignored", body), 201, "")
	await(t, "the statement", func() bool { return len(w.call("GET", "/bank/statement", "", "").list(t)) == 2 })
	first := w.call("GET", "/bank/statement?limit=1", "", "")
	equal(t, "lines", len(first.list(t)), 1)
	equal(t, "lines after", len(w.call("GET", "/bank/statement?cursor="+first.text("next_cursor"), "", "").list(t)), 1)
	for _, bad := range []string{`{"reference":"r","amount":{"minor":-1,"currency":"GBP"},"account":"a"}`, `{"reference":"r","amount":{"minor":1,"currency":"GBP"}}`} {
		equal(t, bad, w.call("POST", "/bank/transfers", "", bad).status, 422)
	}
}
