package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestAccept_NamesBadInputAndChangesNothing(t *testing.T) {
	ctx := limit(t)
	token := "tok_never_used"
	item := func(sku string, quantity any) string {
		return fmt.Sprintf(`{"customer_id":"c","items":[{"sku":%q,"quantity":%v}],"payment_token":%q}`, sku, quantity, token)
	}
	const plain = "application/json"
	for name, c := range map[string]struct {
		body, key, bearer, contentType string
		status                         int
		slug, field                    string
	}{
		"malformed JSON":      {body: `{"customer_id":`, status: 400, slug: "malformed-json"},
		"empty body":          {body: ``, status: 400, slug: "malformed-json"},
		"two values":          {body: item("mug", 1) + "{}", status: 400, slug: "malformed-json"},
		"not JSON":            {body: item("mug", 1), contentType: "text/plain", status: 415, slug: "not-json"},
		"unknown field":       {body: `{"customer_id":"c","coupon":"x"}`, status: 422, slug: "unknown-field", field: "coupon"},
		"wrong type":          {body: item("mug", `"one"`), status: 422, slug: "invalid-field", field: "items[0].quantity"},
		"fractional quantity": {body: item("mug", 1.5), status: 422, slug: "invalid-field", field: "items[0].quantity"},
		"zero quantity":       {body: item("mug", 0), status: 422, slug: "invalid-field", field: "items[0].quantity"},
		"negative quantity":   {body: item("mug", -3), status: 422, slug: "invalid-field", field: "items[0].quantity"},
		"huge quantity":       {body: item("mug", 1_000_000_000), status: 422, slug: "invalid-field", field: "items[0].quantity"},
		"beyond 64 bits":      {body: item("mug", "99999999999999999999"), status: 422, slug: "invalid-field", field: "items[0].quantity"},
		"unknown SKU":         {body: item("unicorn", 1), status: 422, slug: "unknown-sku", field: "items[0].sku"},
		"zero byte":           {body: strings.Replace(item("mug", 1), "mug", `m\u0000ug`, 1), status: 400, slug: "zero-byte"},
		"not UTF-8":           {body: strings.Replace(item("mug", 1), "mug", "m\xe9g", 1), status: 400, slug: "not-utf-8"},
		"other charset":       {body: item("mug", 1), contentType: "application/json; charset=latin1", status: 415, slug: "unsupported-charset", field: "Content-Type"},
		"SKU's name twice":    {body: `{"customer_id":"c","items":[{"sku":"mug","sku":"poster","quantity":1}]}`, status: 400, slug: "malformed-json"},
		"other case":          {body: `{"CUSTOMER_ID":"c"}`, status: 422, slug: "unknown-field", field: "CUSTOMER_ID"},
		"no items":            {body: fmt.Sprintf(`{"customer_id":"c","items":[],"payment_token":%q}`, token), status: 422, slug: "invalid-field", field: "items"},
		"no customer":         {body: fmt.Sprintf(`{"items":[{"sku":"mug","quantity":1}],"payment_token":%q}`, token), status: 422, slug: "invalid-field", field: "customer_id"},
		"no token":            {body: `{"customer_id":"c","items":[{"sku":"mug","quantity":1}]}`, status: 422, slug: "invalid-field", field: "payment_token"},
		"SKU twice":           {body: fmt.Sprintf(`{"customer_id":"c","items":[{"sku":"mug","quantity":1},{"sku":"mug","quantity":1}],"payment_token":%q}`, token), status: 422, slug: "invalid-field", field: "items[1].sku"},
		"two currencies":      {body: fmt.Sprintf(`{"customer_id":"c","items":[{"sku":"mug","quantity":1},{"sku":"yen-bowl","quantity":1}],"payment_token":%q}`, token), status: 422, slug: "mixed-currencies", field: "items[1].sku"},
		"callback elsewhere":  {body: fmt.Sprintf(`{"customer_id":"c","items":[{"sku":"mug","quantity":1}],"payment_token":%q,"callback_url":"ftp://x"}`, token), status: 422, slug: "invalid-field", field: "callback_url"},
		"10 MB":               {body: `{"customer_id":"` + strings.Repeat("x", 10<<20) + `"}`, status: 413, slug: "body-too-large"},
		"no key":              {body: item("mug", 1), key: "-", status: 400, slug: "idempotency-key-required", field: "Idempotency-Key"},
		"over-long key":       {body: item("mug", 1), key: strings.Repeat("k", 256), status: 400, slug: "idempotency-key-invalid", field: "Idempotency-Key"},
		"key with a space":    {body: item("mug", 1), key: "a b", status: 400, slug: "idempotency-key-invalid", field: "Idempotency-Key"},
		"no API key":          {body: item("mug", 1), bearer: "-", status: 401, slug: "unauthenticated", field: "Authorization"},
		"wrong API key":       {body: item("mug", 1), bearer: "sk_wrong", status: 401, slug: "unauthenticated", field: "Authorization"},
	} {
		t.Run(name, func(t *testing.T) {
			key := map[string]string{"": uuid.NewString(), "-": ""}
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, acme.Orders+"/v1/orders", bytes.NewBufferString(c.body))
			if err != nil {
				t.Fatal(err)
			}
			set := func(header, value, otherwise string) {
				if value == "" {
					value = otherwise
				}
				if value != "-" {
					request.Header.Set(header, value)
				}
			}
			set("Content-Type", c.contentType, plain)
			set("Idempotency-Key", c.key, key[""])
			if c.bearer != "-" {
				set("Authorization", map[string]string{"": "Bearer " + acme.Key}[c.bearer], "Bearer "+c.bearer)
			}
			response, err := acme.HTTP.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close() //nolint:errcheck // a test
			var p struct {
				Type, Title, Field, Instance string
				Status                       int
			}
			if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || p.Status != c.status || !strings.HasSuffix(p.Type, "/"+c.slug) || p.Field != c.field {
				t.Errorf("got %d %+v, want %d %s, field %q", response.StatusCode, p, c.status, c.slug, c.field)
			}
			if got := response.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
		})
	}
	var rows int
	err := truth.Orders.QueryRow(ctx, `SELECT count(*) FROM orders WHERE payment_token = $1`, token).Scan(&rows)
	if err != nil || rows != 0 {
		t.Errorf("%d orders were written, error %v", rows, err)
	}
	allHolds(ctx, t)
}

func TestAccept_RefusesOneKeyForTwoBaskets(t *testing.T) {
	ctx := limit(t)
	token, err := acme.Token(ctx, "4242424242424242")
	if err != nil {
		t.Fatal(err)
	}
	key := uuid.NewString()
	first, err := acme.Place(ctx, key, acme.Basket(token, mug))
	if err != nil {
		t.Fatal(err)
	}
	other := mug
	other.Quantity = 2
	second, err := acme.Place(ctx, key, acme.Basket(token, other))
	if err != nil {
		t.Fatal(err)
	}
	if second.Status != http.StatusUnprocessableEntity || !bytes.Contains(second.Body, []byte("idempotency-key-reused")) {
		t.Errorf("status %d, %s", second.Status, second.Body)
	}
	again, err := acme.Place(ctx, `"`+key+`"`, acme.Basket(token, mug)) // quoted, as the draft has it
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Body, first.Body) {
		t.Errorf("the first request's answer was %s, now %s", first.Body, again.Body)
	}
	if _, err := acme.Finished(ctx, decode(t, first).ID); err != nil {
		t.Fatal(err)
	}
	allHolds(ctx, t)
}

func TestMerchant_SeesOnlyItsOwn(t *testing.T) {
	ctx := limit(t)
	o := order(ctx, t, "4242424242424242", mug)
	if _, err := acme.Finished(ctx, o.ID); err != nil {
		t.Fatal(err)
	}
	other := *acme
	other.Key = system.Env()["OTHER_MERCHANT_KEY"]
	for _, url := range []string{acme.Orders + "/v1/orders/" + o.ID, acme.Payments + "/v1/payments/" + o.PaymentID} {
		mine, err := acme.Get(ctx, url)
		if err != nil || mine.Status != http.StatusOK {
			t.Errorf("%s for its owner: %d, %v", url, mine.Status, err)
		}
		theirs, err := other.Get(ctx, url)
		if err != nil || theirs.Status != http.StatusNotFound {
			t.Errorf("%s for somebody else: %d, %v", url, theirs.Status, err)
		}
	}
	entries, err := other.Get(ctx, acme.Ledger+"/v1/entries?reference="+o.ID)
	if err != nil || !bytes.Contains(entries.Body, []byte(`"data":[]`)) {
		t.Errorf("entries for somebody else: %s, %v", entries.Body, err)
	}
}

func TestPutProduct_RefusesAStaleETag(t *testing.T) {
	ctx := limit(t)
	url := acme.Orders + "/v1/products/poster"
	seen, err := acme.Get(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	put := func(match string) int {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, url,
			strings.NewReader(`{"name":"Poster","price":{"minor":950,"currency":"GBP"},"stock":1000}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+acme.Key)
		request.Header.Set("Content-Type", "application/json")
		if match != "" {
			request.Header.Set("If-Match", match)
		}
		response, err := acme.HTTP.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	for _, c := range []struct {
		match string
		want  int
	}{{"", 428}, {seen.Header.Get("ETag"), 200}, {seen.Header.Get("ETag"), 412}, {`"nonsense"`, 412}} {
		if got := put(c.match); got != c.want {
			t.Errorf("If-Match %s: %d, want %d", c.match, got, c.want)
		}
	}
	allHolds(ctx, t)
}
