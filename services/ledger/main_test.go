package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	serviceKey = "sk_service_test"
	acme       = "mer_acme"
	acmeKey    = "sk_acme"
	other      = "mer_other"
	otherKey   = "sk_other"
)

// ledger is the service on a database of one test's own. Its relay does not run,
// so every reply stays in the outbox, where it can be counted.
type ledger struct {
	*service
	t    *testing.T
	http http.Handler
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	return newLedgerAt(t, testenv.Postgres(t, migrations))
}

func newLedgerAt(t *testing.T, dbURL string) *ledger {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(t.Context(), postgres.Options{URL: dbURL, PreparedTransactions: true, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	merchants := []config.Merchant{{ID: acme, Key: acmeKey, WebhookSecret: "whsec_"}, {ID: other, Key: otherKey, WebhookSecret: "whsec_"}}
	if err := web.SyncAPIKeys(t.Context(), db, merchants); err != nil {
		t.Fatal(err)
	}
	messages := outbox.New("/ledger", "test")
	l := &ledger{t: t, service: &service{
		cfg: settings{Common: config.Common{ServiceKey: serviceKey}, FeeBasisPoints: 250},
		db:  db, log: log, outbox: messages, relay: outbox.NewRelay(messages, outbox.Config{DB: db, Publisher: nowhere{}, Logger: log}),
		writer: postgres.Grouped(db, postgres.GroupOptions{LockWait: lockWait, PlaceWait: placeWait}),
	}}
	t.Cleanup(l.writer.Close)
	l.http = l.routes(t.Context(), prometheus.NewRegistry(), nil) // the broker is only asked how it is
	return l
}

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

// order is a sale that can be posted and reversed.
func order(amount int64) command {
	return command{
		OrderID: "ord_" + uuid.NewString(), PaymentID: "pay_" + uuid.NewString(), MerchantID: acme, Amount: gbp(amount),
	}
}

// message is a new message; to deliver one twice, pass it twice.
func message(t *testing.T, kind string, data any) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(uuid.Must(uuid.NewV7()).String())
	e.SetSource("/orders")
	e.SetType(kind)
	if cmd, ok := data.(command); ok {
		e.SetSubject(cmd.OrderID)
	}
	if err := e.SetData(event.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	return e
}

// deliver handles messages one after the other.
func (l *ledger) deliver(messages ...event.Event) {
	l.t.Helper()
	for _, m := range messages {
		if err := l.receive(l.t.Context(), m); err != nil {
			l.t.Fatalf("%s: %v", m.Type(), err)
		}
	}
}

// atOnce runs all of the work at the same moment and waits for it.
func atOnce(work ...func()) {
	start, done := make(chan struct{}), make(chan struct{})
	for _, w := range work {
		go func() {
			defer func() { done <- struct{}{} }()
			<-start
			w()
		}()
	}
	close(start)
	for range work {
		<-done
	}
}

// replies are the answers about an order, sorted: "post-sale done".
func (l *ledger) replies(orderID string) []string {
	l.t.Helper()
	rows, _ := l.db.Query(l.t.Context(), `SELECT body FROM outbox WHERE type = 'orders.saga-reply'`)
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		l.t.Fatal(err)
	}
	var texts []string
	for _, body := range bodies {
		var e event.Event
		if err := e.UnmarshalJSON(body); err != nil {
			l.t.Fatal(err)
		}
		r, err := saga.DecodeReply(e)
		if err != nil {
			l.t.Fatal(err)
		}
		if r.SagaID == orderID {
			texts = append(texts, strings.TrimSpace(r.Step+" "+string(r.Outcome)+" "+r.Reason))
		}
	}
	slices.Sort(texts)
	return texts
}

// balances are those that are not zero.
func (l *ledger) balances() map[string]int64 {
	l.t.Helper()
	return read[int64](l.t, l.db, `SELECT id, balance_minor FROM accounts WHERE balance_minor <> 0`)
}

// kinds counts the entries with a source.
func (l *ledger) kinds(source string) map[string]int64 {
	l.t.Helper()
	return read[int64](l.t, l.db, `SELECT kind, count(*) FROM entries WHERE source = $1 GROUP BY kind`, source)
}

// read collects rows of a name and a value.
func read[V any](t *testing.T, db *pgxpool.Pool, query string, args ...any) map[string]V {
	t.Helper()
	rows, _ := db.Query(t.Context(), query, args...)
	found := map[string]V{}
	var name string
	var value V
	_, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { found[name] = value; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// booksBalance checks what must hold at every moment: each currency sums to zero,
// and each account holds what was posted on it.
func (l *ledger) booksBalance() {
	l.t.Helper()
	if off := read[int64](l.t, l.db, `
		SELECT currency, sum(balance_minor)::bigint FROM accounts GROUP BY currency HAVING sum(balance_minor) <> 0`); len(off) > 0 {
		l.t.Errorf("currencies that do not sum to zero: %v", off)
	}
	if off := read[int64](l.t, l.db, `
		SELECT id, balance_minor - coalesce(sum(amount_minor), 0)::bigint
		  FROM accounts
		  LEFT JOIN postings ON account_id = id
		 GROUP BY id
		HAVING balance_minor <> coalesce(sum(amount_minor), 0)`); len(off) > 0 {
		l.t.Errorf("accounts that differ from their postings: %v", off)
	}
}

// answer is an HTTP answer.
type answer struct {
	status int
	body   []byte
}

func (l *ledger) call(method, path, key string, body any) answer {
	l.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		l.t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(l.t.Context(), method, path, bytes.NewReader(encoded))
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	recorder := httptest.NewRecorder()
	l.http.ServeHTTP(recorder, request)
	return answer{status: recorder.Code, body: recorder.Body.Bytes()}
}

// book posts an entry as another service does.
func (l *ledger) book(n newEntry) answer {
	l.t.Helper()
	return l.call(http.MethodPost, "/v1/entries", serviceKey, n)
}

func (a answer) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

// want checks a status and, of a refusal, which one it is.
func (a answer) want(t *testing.T, status int, slug string) {
	t.Helper()
	var p web.Problem
	if len(a.body) > 0 {
		a.decode(t, &p)
	}
	if a.status != status || (slug != "" && !strings.HasSuffix(p.Type, "/"+slug)) {
		t.Errorf("answered %d %s, want %d %s", a.status, a.body, status, slug)
	}
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// count adds up a set of counts.
func count(of map[string]int64) (n int64) {
	for v := range maps.Values(of) {
		n += v
	}
	return n
}

// nowhere is the publisher of a relay that does not run.
type nowhere struct{ outbox.Publisher }
