package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/shared/pattern/reconciliation"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// The statements of others, page by page.

// statementPage is how many lines are asked for at once.
const statementPage = 1000

// statementLine is a line of any of them; each leaves out what it does not know.
type statementLine struct {
	ID         string      `json:"id"`
	Kind       string      `json:"kind"`
	Reference  string      `json:"reference"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
	At         time.Time   `json:"at"`
}

// statement reads pages from an address with a key.
type statement struct {
	url, key string
	client   *http.Client
	log      *slog.Logger

	// read turns a line into one that can be compared; false leaves it out.
	read func(l statementLine) (reconciliation.Line, bool)

	// uuids is set where an id that is no UUID makes no sense: the processor's names an
	// operation, of which news may be made (see findMissedNews).
	uuids bool
}

func (s *service) statements() []reconciliation.Source {
	client := web.Client(s.cfg.CallTimeout)
	return []reconciliation.Source{
		{Name: fromProcessor, Fetch: statement{s.cfg.ProcessorURL + "/v1/report", s.cfg.ProcessorKey, client, s.log, processorLine, true}.fetch},
		{Name: fromBank, Fetch: statement{s.cfg.BankURL + "/bank/statement", "", client, s.log, bankLine, false}.fetch},
		{Name: fromLedger, Fetch: statement{s.cfg.LedgerURL + "/v1/journal", s.cfg.ServiceKey, client, s.log, ledgerLine, false}.fetch},
	}
}

func (st statement) fetch(ctx context.Context, since time.Time, cursor string) ([]reconciliation.Line, string, error) {
	query := url.Values{"limit": {fmt.Sprint(statementPage)}}
	if cursor != "" {
		query.Set("cursor", cursor)
	} else if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339))
	}
	var page struct {
		Data       []json.RawMessage `json:"data"`
		NextCursor *string           `json:"next_cursor"`
	}
	status, _, err := web.Call(ctx, st.client, web.Request{Method: http.MethodGet, URL: st.url + "?" + query.Encode(), Bearer: st.key, Out: &page})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", st.url, err)
	}
	lines := make([]reconciliation.Line, 0, len(page.Data))
	for _, raw := range page.Data {
		// Line by line: one that makes no sense must not keep the others from being compared.
		var l statementLine
		if err := json.Unmarshal(raw, &l); err != nil || !l.readable() || st.uuids && uuid.Validate(l.ID) != nil {
			name := fmt.Sprintf("line-%x", sha256.Sum256(raw)) // the same in every run
			lines = append(lines, reconciliation.Line{ID: name, Kind: unreadable, Reference: name, Sign: 1})
			st.log.ErrorContext(ctx, "a statement has a line that makes no sense", "url", st.url, "name", name, "line", string(raw[:min(len(raw), maxStatementText)]))
		} else if line, ok := st.read(l); ok {
			lines = append(lines, line)
		}
	}
	if page.NextCursor == nil {
		return lines, "", nil
	}
	return lines, *page.NextCursor, nil
}

// line makes a line of which the subject is what the reference names, if it is
// one of ours.
func (l statementLine) line(kind string, sign int) reconciliation.Line {
	subject, ok := parseID("pay_", l.Reference)
	if !ok {
		subject, _ = parseID("pyo_", l.Reference)
	}
	return reconciliation.Line{
		ID: l.ID, Kind: kind, Reference: l.Reference, Subject: subject, MerchantID: l.MerchantID, Sign: sign,
		Minor: l.Amount.Minor, Currency: l.Amount.Currency, At: l.At,
	}
}

// unreadable is the kind of a line that makes no sense. Nothing of ours is of that kind,
// so the line is a difference. What it says is in the log only.
const unreadable = "unreadable"

// What PostgreSQL takes, in a text and in a sum; no honest line comes near.
const (
	maxStatementText  = 255
	maxStatementMinor = 1_000_000_000_000_000
)

// storable tells whether PostgreSQL takes each of these texts.
func storable(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(text string) bool { return len(text) > maxStatementText || strings.ContainsRune(text, 0) })
}

func (l statementLine) readable() bool {
	return l.ID != "" && storable(l.ID, l.Kind, l.Reference, l.MerchantID, l.Amount.Currency) && l.At.Year() > 0 &&
		-maxStatementMinor <= l.Amount.Minor && l.Amount.Minor <= maxStatementMinor
}

// processorLine: holds and releases move no money.
func processorLine(l statementLine) (reconciliation.Line, bool) {
	return l.line(l.Kind, 1), l.Kind == "capture" || l.Kind == "refund"
}

func bankLine(l statementLine) (reconciliation.Line, bool) { return l.line("transfer", 1), true }

// ledgerLine: a reversal takes its sale back.
func ledgerLine(l statementLine) (reconciliation.Line, bool) {
	if kind, reversal := strings.CutSuffix(l.Kind, "-reversal"); reversal {
		return l.line(kind, -1), true
	}
	return l.line(l.Kind, 1), true
}
