package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/failwell/shared/testenv"
)

// call makes a request as a merchant does.
func (b bench) call(method, target, body string, header ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(body))
	header = append(header, "Content-Type", "application/json", "Authorization", "Bearer sk_acme")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	b.api.ServeHTTP(recorder, request)
	return recorder
}

func (b bench) create(escapedSKU string, minor int64) *httptest.ResponseRecorder {
	return b.call(http.MethodPut, "/v1/products/"+escapedSKU,
		fmt.Sprintf(`{"name":"A thing","price":{"minor":%d,"currency":"GBP"},"stock":10000}`, minor), "If-None-Match", "*")
}

// Whatever can stand in a path is either a product's name or refused; PostgreSQL,
// which has no text with a zero byte or half a character, is not even asked.
func TestProduct_InvalidSKUIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	for sku, want := range map[string]int{
		"%00": 400, "%FF": 400, "a%00b": 400, "%C3": 400, "%FF%2F": 400, "%0A": 422, "%7F": 422, "%20": 422, strings.Repeat("x", 256): 422,
	} {
		if answer := b.call(http.MethodGet, "/v1/products/"+sku, ""); answer.Code != want {
			t.Errorf("GET %s: %d %s, want %d", sku, answer.Code, answer.Body, want)
		}
		if answer := b.create(sku, 100); answer.Code != want {
			t.Errorf("PUT %s: %d %s, want %d", sku, answer.Code, answer.Body, want)
		}
	}
	if answer := b.call(http.MethodGet, "/v1/products?cursor=%FF", ""); answer.Code != http.StatusBadRequest {
		t.Errorf("cursor: %d %s", answer.Code, answer.Body)
	}
}

// The Location that a product is created under leads to it.
func TestProduct_IsFoundUnderItsLocation(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	for escaped, sku := range map[string]string{"a%2Fb": "a/b", "50%25": "50%", "t%C3%A9": "té", "a%20b": "a b", "q%3Fx": "q?x", "%2e%2e": "..", "%252F": "%2F"} {
		created := b.create(escaped, 100)
		if created.Code != http.StatusCreated {
			t.Errorf("%s: %d %s", escaped, created.Code, created.Body)
			continue
		}
		found := b.call(http.MethodGet, created.Header().Get("Location"), "")
		var p productView
		if err := json.Unmarshal(found.Body.Bytes(), &p); err != nil || p.SKU != sku {
			t.Errorf("%s, at %s: %q, %d %s", escaped, created.Header().Get("Location"), p.SKU, found.Code, found.Body)
		}
	}
}

func TestPutProduct_IfMatchIsAListOfETags(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	for match, want := range map[string]int{
		`"zzz", "1"`: 200, `"1"`: 200, `*`: 200, `"1" , "7"`: 200,
		`"zzz", "7"`: 412, `1`: 412, `"1`: 412, `W/"1"`: 412, `"01"`: 412, `"+1"`: 412, `"a,1"`: 412, `,`: 412,
	} {
		b.exec(`UPDATE products SET version = 1 WHERE sku = 'mug'`)
		answer := b.call(http.MethodPut, "/v1/products/mug", `{"name":"Mug","price":{"minor":1,"currency":"GBP"},"stock":10}`, "If-Match", match)
		if answer.Code != want {
			t.Errorf("If-Match: %s: %d %s, want %d", match, answer.Code, answer.Body, want)
		}
	}
}

func TestListProducts_ShowsThemInPages(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4) // with a mug
	b.exec(`
		INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial)
		SELECT 'mer_acme', 'p/' || n, 'A thing', 100, 'GBP', 1, 1 FROM generate_series(1, 44) n`)
	seen, pages := map[string]bool{}, 0
	for cursor := ""; cursor != "" || pages == 0; pages++ {
		answer := b.call(http.MethodGet, "/v1/products?limit=15&cursor="+cursor, "")
		var p page[productView]
		if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || answer.Code != http.StatusOK || len(p.Data) != 15 {
			t.Fatalf("%d products, %d %s", len(p.Data), answer.Code, answer.Body)
		}
		for _, product := range p.Data {
			seen[product.SKU] = true
		}
		cursor = p.NextCursor
	}
	if len(seen) != 45 || pages != 3 {
		t.Errorf("%d products on %d pages", len(seen), pages)
	}
	for _, limit := range []string{"0", "101", "-1", "x"} {
		if answer := b.call(http.MethodGet, "/v1/products?limit="+limit, ""); answer.Code != http.StatusUnprocessableEntity {
			t.Errorf("limit %s: %d", limit, answer.Code)
		}
	}
}

// What is added up must not overflow: neither the price of many nor the books.
func TestPrice_AndTotalAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	for sku, c := range map[string]struct {
		minor  int64
		status int
	}{"free": {0, 422}, "dear": {1_000_000_000_000_000, 201}, "dearer": {1_000_000_000_000_001, 422}, "half": {500_000_000_000_000, 201}} {
		if answer := b.create(sku, c.minor); answer.Code != c.status {
			t.Errorf("a price of %d: %d %s", c.minor, answer.Code, answer.Body)
		}
	}
	for items, status := range map[string]int{
		`{"sku":"half","quantity":2}`:                             202,
		`{"sku":"half","quantity":3}`:                             422,
		`{"sku":"dear","quantity":10000}`:                         422,
		`{"sku":"dear","quantity":1},{"sku":"mug","quantity":1}`:  422,
		`{"sku":"half","quantity":1},{"sku":"dear","quantity":1}`: 422,
	} {
		answer := b.call(http.MethodPost, "/v1/orders", `{"customer_id":"c","payment_token":"t","items":[`+items+`]}`, "Idempotency-Key", items[8:12]+items[len(items)-3:])
		if answer.Code != status {
			t.Errorf("%s: %d %s", items, answer.Code, answer.Body)
		}
	}
}

// cable leads to a database and is cut when the answer comes to a message with that
// word in it: the database has done it, and the client gets no answer.
func cable(t *testing.T, database, word string) string {
	t.Helper()
	to, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	target := to.Host
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			var said atomic.Bool
			carry := func(from, to net.Conn, pass func(message []byte) bool) {
				defer from.Close() //nolint:errcheck // cut
				defer to.Close()   //nolint:errcheck // cut
				buffer := make([]byte, 1<<16)
				for {
					n, err := from.Read(buffer)
					if err != nil || !pass(buffer[:n]) {
						return
					}
					if _, err := to.Write(buffer[:n]); err != nil {
						return
					}
				}
			}
			go carry(client, server, func(message []byte) bool {
				said.Store(said.Load() || strings.Contains(string(message), word))
				return true
			})
			go carry(server, client, func([]byte) bool { return !said.Load() })
		}
	}()
	to.Host, to.RawQuery = listener.Addr().String(), "sslmode=disable"
	return to.String()
}

// The write is committed and its answer lost. A client that is told that it failed writes
// again, over what somebody else has written since.
func TestPutProduct_LostCommitIsReportedAsUnknown(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t, migrations)
	direct, cut := newReplica(t, database, 4), newReplica(t, cable(t, database, "cut here"), 4)
	body := `{"name":"cut here","price":{"minor":100,"currency":"GBP"},"stock":7}`
	for sku, header := range map[string][]string{"cap": {"If-None-Match", "*"}, "mug": {"If-Match", "*"}} {
		answer := cut.call(http.MethodPut, "/v1/products/"+sku, body, header...)
		if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "outcome-unknown") {
			t.Errorf("%s: %d %s", sku, answer.Code, answer.Body)
		}
		var written bool
		for deadline := time.Now().Add(30 * time.Second); !written && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if err := direct.db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM products WHERE sku = $1 AND available = 7)`, sku).Scan(&written); err != nil {
				t.Fatal(err)
			}
		}
		if !written {
			t.Errorf("%s was not written: the cable was cut too early, this test tests nothing", sku)
		}
	}
}
