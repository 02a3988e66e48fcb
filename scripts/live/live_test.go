package live

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What test_decoding writes, as PostgreSQL 15 wrote it.
func TestTransaction_ReadsTheLog(t *testing.T) {
	tx := transaction{lane: "orders", keys: map[string][]string{"orders": {"id"}, "outbox": {"writer", "id"}}}
	var got []Event
	for _, line := range []string{
		"BEGIN 757",
		`table public.orders: INSERT: id[uuid]:'01a225ca-64e8-7ebc-9e12-245c70de6244' reason[text]:'it''s [late]: no' total_minor[bigint]:1250 finished_at[timestamp with time zone]:null open[boolean]:true tags[text[]]:'{a,b}'`,
		`table public.outbox: UPDATE: old-key: writer[text]:'orders-1' id[bigint]:7 new-tuple: writer[text]:'orders-2' id[bigint]:7 body[bytea]:'\x7b7d' headers[jsonb]:unchanged-toast-datum`,
		`table public.outbox: DELETE: writer[text]:'orders-2' id[bigint]:7`,
		`table public.leases: UPDATE: name[text]:'x'`,
		"COMMIT 757 (at 2026-11-29 05:32:30.827398+00)",
		"BEGIN 758",
		"PREPARE TRANSACTION 'ledger.pyo_01a225ca-64e8-7ebc-9e12-245c70de6244.1', txid 758 (at 2026-11-29 05:32:31+00)",
		"ROLLBACK PREPARED 'g', txid 758 (at 2026-11-29 05:32:31.5+00)",
	} {
		got = append(got, tx.line(line)...)
	}
	if len(got) != 3 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	text := func(s string) *string { return &s }
	want := []Row{
		{Table: "orders", Op: "INSERT", Key: "01a225ca-64e8-7ebc-9e12-245c70de6244", Cols: map[string]*string{
			"id": text("01a225ca-64e8-7ebc-9e12-245c70de6244"), "reason": text("it's [late]: no"), "total_minor": text("1250"),
			"finished_at": nil, "open": text("true"), "tags": text("{a,b}"),
		}},
		{Table: "outbox", Op: "UPDATE", Key: "orders-2 7", Cols: map[string]*string{"writer": text("orders-2"), "id": text("7"), "body": text("{}")}},
		{Table: "outbox", Op: "DELETE", Key: "orders-2 7", Cols: map[string]*string{"writer": text("orders-2"), "id": text("7")}},
	}
	if diff := cmp.Diff(want, got[0].Rows, cmp.AllowUnexported(Row{})); diff != "" {
		t.Error(diff)
	}
	if at := time.Date(2026, 11, 29, 5, 32, 30, 827398000, time.UTC); !got[0].At.Equal(at) || got[0].Kind != Commit {
		t.Errorf("%s at %s", got[0].Kind, got[0].At)
	}
	if got[1].Kind != Prepare || len(idsIn(got[1].GID)) != 1 || got[2].Kind != RollbackPrepared || got[2].GID != "g" {
		t.Errorf("prepared: %+v, %+v", got[1], got[2])
	}
}

const (
	orderA   = "00000000-0000-7000-8000-00000000000a"
	orderB   = "00000000-0000-7000-8000-00000000000b"
	paymentA = "00000000-0000-7000-8000-0000000000aa"
	messageA = "00000000-0000-7000-8000-000000000aaa"
	refundA  = "00000000-0000-7000-8000-00000000aaaa"
)

func row(table, op, key string, cols ...string) Row {
	r := Row{Table: table, Op: op, Key: key, Cols: map[string]*string{}}
	for i := 0; i+1 < len(cols); i += 2 {
		r.Cols[cols[i]] = &cols[i+1]
	}
	return r
}

// Writers share commits. A timeline shows the rows of its own order, says how many others
// there were, and finds what belongs to it through the ids that rows have in common; also
// a deleted outbox row, whose key names no order.
func TestRecord_TimelineHasTheRowsOfItsOrder(t *testing.T) {
	r, at := newRecord(), time.Now()
	r.add(
		Event{At: at, Kind: Commit, Lane: "orders", Rows: []Row{
			row("orders", "INSERT", orderA, "id", orderA, "payment_id", paymentA, "status", "pending"),
			row("orders", "INSERT", orderB, "id", orderB, "status", "pending"),
			row("outbox", "INSERT", "orders-1 1", "message_id", messageA, "body", `{"subject":"ord_`+orderA+`","data":{"other":"`+orderB+`"}}`),
			row("products", "UPDATE", "mug", "sku", "mug"),
		}},
		Event{At: at.Add(1), Kind: Commit, Lane: "payments", Rows: []Row{row("payments", "INSERT", paymentA, "id", paymentA, "status", "captured")}},
		Event{At: at.Add(2), Kind: Commit, Lane: "orders", Rows: []Row{row("outbox", "DELETE", "orders-1 1")}},
		Event{At: at.Add(3), Kind: Died, Lane: "payments"},
		Event{At: at.Add(time.Hour), Kind: Died, Lane: "orders"}, // long after this order
		Event{At: at.Add(time.Hour), Kind: Started, Lane: "orders"},
		Event{At: at.Add(time.Hour), Kind: Started, Lane: "payments"}, // what ended beside it
		Event{At: at.Add(2 * time.Hour), Kind: Started, Lane: "payments"},
	)
	got, _ := r.timeline("ord_" + orderA)
	var lanes []string
	for _, e := range got {
		lanes = append(lanes, e.Lane+" "+e.Kind)
	}
	if want := "orders commit, payments commit, orders commit, payments died, payments started"; strings.Join(lanes, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(lanes, ", "), want)
	}
	if len(got[0].Rows) != 3 || got[0].Others != 1 {
		t.Errorf("%d rows and %d of others, want 3 and 1", len(got[0].Rows), got[0].Others)
	}
	if got, _ := r.timeline("ord_" + orderB); len(got) != 4 { // its commit, the outbox row that mentions it, the death and its end
		t.Errorf("the other order: %+v", got)
	}
}

func TestRecord_RefundBeginsWithItsRequest(t *testing.T) {
	const key = "00000000-0000-7000-8000-0000000000ee"
	r, at := newRecord(), time.Now()
	r.add(
		Event{At: at, Kind: Commit, Lane: "payments", Rows: []Row{row("payments", "INSERT", paymentA, "id", paymentA)}},
		Event{At: at.Add(1), Kind: Call, Lane: "payments", From: "client", refs: []string{paymentA, key}},
		Event{At: at.Add(2), Kind: Commit, Lane: "payments", Rows: []Row{
			row("refunds", "INSERT", refundA, "id", refundA, "payment_id", paymentA, "recovery_point", "started"),
			row("idempotency_keys", "INSERT", key, "key", key, "operation_id", refundA),
		}},
	)
	if got, _ := r.timeline("rfd_" + refundA); len(got) != 2 || got[0].Kind != Call {
		t.Errorf("%+v", got)
	}
	if list, _ := r.list(); len(list) != 1 || list[0].ID != "rfd_"+refundA {
		t.Errorf("%+v", list)
	}
}

// The outside world and the page's client each number their calls from one: two orders
// became one when the numbers met.
func TestRecord_CallsOfTheSameNumberAreTwo(t *testing.T) {
	r, at := newRecord(), time.Now()
	r.add(
		said{ID: 7, At: at, Method: http.MethodPost, Path: "/v1/tokens", Body: orderA}.event(),
		exchange(at, "client", "orders", said{ID: 7, Method: http.MethodPost, Path: "/v1/orders", Key: orderB}),
	)
	if r.find(orderA) == r.find(orderB) {
		t.Error("two calls are taken for one")
	}
}

// A stranger's page may neither press a button nor, under a name that leads here, read.
func TestHandler_RefusesStrangers(t *testing.T) {
	p := New()
	handler := p.handler()
	for _, c := range []struct {
		method, path, host, origin string
		want                       int
	}{
		{http.MethodGet, "/", "127.0.0.1:8080", "", http.StatusOK},
		{http.MethodGet, "/page.js", "localhost:8080", "", http.StatusOK},
		{http.MethodGet, "/", "evil.example:8080", "", http.StatusForbidden},
		{http.MethodGet, "/api/events?id=x", "evil.example", "", http.StatusForbidden},
		{http.MethodGet, "/api/events?id=x", "127.0.0.1:8080", "http://evil.example", http.StatusForbidden},
		{http.MethodPost, "/api/disarm", "127.0.0.1:8080", "http://evil.example", http.StatusForbidden},
		{http.MethodPost, "/api/disarm", "127.0.0.1:8080", "", http.StatusForbidden},
		{http.MethodPost, "/api/disarm", "127.0.0.1:8080", "http://127.0.0.1:9090", http.StatusForbidden},
		{http.MethodPost, "/api/process", "127.0.0.1:8080", "http://127.0.0.1:8080", http.StatusUnprocessableEntity}, // reached: the processes are not ours
	} {
		request := httptest.NewRequest(c.method, c.path, strings.NewReader("{}"))
		request.Host = c.host
		if c.origin != "" {
			request.Header.Set("Origin", c.origin)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != c.want {
			t.Errorf("%s %s as %s from %q: %d, want %d", c.method, c.path, c.host, c.origin, answer.Code, c.want)
		}
	}
}

// Where the parent of the processes does not tell, the end of a connection does.
func TestPulse_SeesAProcessEndAndComeBack(t *testing.T) {
	seen := make(chan Event, 8)
	healthy := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	first := httptest.NewServer(healthy)
	address := first.Listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	asked := make(chan struct{}, 8)
	first.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} })
	go func() {
		ended <- pulse(ctx, "orders", first.URL, func(e ...Event) { seen <- e[0] })
	}()
	<-asked
	first.CloseClientConnections()
	first.Close()
	if e := <-seen; e.Kind != Died || e.Lane != "orders" {
		t.Errorf("%+v", e)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	second := &httptest.Server{Listener: listener, Config: &http.Server{Handler: healthy}} //nolint:gosec // a test's
	second.Start()
	defer second.Close()
	if e := <-seen; e.Kind != Started {
		t.Errorf("%+v", e)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Every fault point is offered with the place where it stands.
func TestPoints_HaveTheirLineOfCode(t *testing.T) {
	places := placesIn("../..")
	answer := httptest.NewRecorder()
	p := New()
	p.Root = "../.."
	p.points(answer, nil)
	if strings.Contains(answer.Body.String(), `"code":null`) {
		t.Errorf("a point without a place: %s", answer.Body)
	}
	if got := places["payments.authorise.after-processor"]; len(got) != 1 || !strings.HasPrefix(got[0], "services/payments/authorise.go:") {
		t.Errorf("%v", got)
	}
}

// What the page's client sends is told and goes through as it is: an empty body stays one.
func TestClient_LeavesARequestAsItIs(t *testing.T) {
	lengths := make(chan int64, 2)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lengths <- r.ContentLength
		w.WriteHeader(http.StatusCreated)
	}))
	defer service.Close()
	p := New()
	p.Env = map[string]string{"ORDERS_URL": service.URL}
	c := http.Client{Transport: p.Hear(http.DefaultTransport)}
	for _, body := range []string{"", "{}"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, service.URL+"/v1/orders", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := <-lengths; got != int64(len(body)) {
			t.Errorf("a body of %d bytes came as one of %d", len(body), got)
		}
	}
	if n := len(p.record.events); n != 4 {
		t.Errorf("%d events, want two questions and two answers", n)
	}
}

// A recording keeps of an update what has changed, of a delivery which message it was, and of
// a long body the beginning: the page puts it together again.
func TestShort_KeepsWhatThePageCannotFindElsewhere(t *testing.T) {
	known := map[string]map[string]*string{}
	first := Event{Kind: Commit, Lane: "orders", Rows: []Row{row("orders", "INSERT", orderA, "id", orderA, "status", "pending", "note", strings.Repeat("x", 700))}}.short(known)
	if note := first.Rows[0].col("note"); len(note) > valueKept+5 || !strings.HasSuffix(note, " …") {
		t.Errorf("a value of %d bytes", len(note))
	}
	second := Event{Kind: Commit, Lane: "orders", Rows: []Row{row("orders", "UPDATE", orderA, "id", orderA, "status", "confirmed", "note", strings.Repeat("x", 700))}}.short(known)
	if got := second.Rows[0].Cols; len(got) != 1 || *got["status"] != "confirmed" {
		t.Errorf("kept of the update: %v", got)
	}
	delivered := Event{Kind: Deliver, More: `{"specversion":"1.0","id":"` + messageA + `","type":"ledger.settle","data":{}}`}.short(known)
	if want := `{"id":"` + messageA + `","type":"ledger.settle"}`; delivered.More != want {
		t.Errorf("kept of the delivery: %s", delivered.More)
	}
}
