package web_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

type transfer struct {
	Reference string      `json:"reference"`
	Amount    money.Money `json:"amount"`
}

func (tr transfer) Validate() error {
	if tr.Reference == "" {
		return web.NewProblem(http.StatusUnprocessableEntity, "invalid-field", "A field is not valid", "It must not be empty.").WithField("reference")
	}
	return nil
}

// transfers answers with the body as Bind returned it.
func transfers(e *echo.Echo) {
	e.POST("/transfers", func(c echo.Context) error {
		_, raw, err := web.Bind[transfer](c)
		if err != nil {
			return err
		}
		return c.Blob(http.StatusCreated, echo.MIMEApplicationJSON, raw)
	})
}

func TestBind_NamesTheFieldOfABadBody(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	const fine = `{"reference":"r","amount":{"minor":1250,"currency":"GBP"}}`
	for name, c := range map[string]struct {
		body, contentType string
		status            int
		slug, field       string
	}{
		"empty body":             {body: "", status: 400, slug: "malformed-json"},
		"only white space":       {body: " \n", status: 400, slug: "malformed-json"},
		"not JSON at all":        {body: "amount=5", status: 400, slug: "malformed-json"},
		"cut off":                {body: fine[:20], status: 400, slug: "malformed-json"},
		"trailing comma":         {body: `{"reference":"r",}`, status: 400, slug: "malformed-json"},
		"a second value":         {body: fine + fine, status: 400, slug: "malformed-json"},
		"trailing garbage":       {body: fine + "]", status: 400, slug: "malformed-json"},
		"nested beyond reason":   {body: strings.Repeat("[", 20_000), status: 400, slug: "malformed-json"},
		"null":                   {body: "null", status: 422, slug: "invalid-field", field: "reference"},
		"unknown field":          {body: `{"reference":"r","amont":{}}`, status: 422, slug: "unknown-field", field: "amont"},
		"unknown field inside":   {body: `{"reference":"r","amount":{"major":12}}`, status: 422, slug: "unknown-field", field: "major"},
		"another type":           {body: `{"reference":7}`, status: 422, slug: "invalid-field", field: "reference"},
		"another type inside":    {body: `{"reference":"r","amount":{"minor":"1250"}}`, status: 422, slug: "invalid-field", field: "amount.minor"},
		"fraction of a penny":    {body: `{"reference":"r","amount":{"minor":12.5}}`, status: 422, slug: "invalid-field", field: "amount.minor"},
		"more than 64 bits":      {body: `{"reference":"r","amount":{"minor":9223372036854775808}}`, status: 422, slug: "invalid-field", field: "amount.minor"},
		"an array":               {body: `[` + fine + `]`, status: 422, slug: "invalid-field"},
		"fails its own check":    {body: `{"reference":""}`, status: 422, slug: "invalid-field", field: "reference"},
		"form":                   {body: fine, contentType: "application/x-www-form-urlencoded", status: 415, slug: "not-json"},
		"no content type":        {body: fine, contentType: "-", status: 415, slug: "not-json"},
		"malformed content type": {body: fine, contentType: "application/json; =", status: 415, slug: "not-json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var headers []string
			switch c.contentType {
			case "":
				headers = []string{"Content-Type", "application/json"}
			case "-":
			default:
				headers = []string{"Content-Type", c.contentType}
			}
			wantProblem(t, s.send(t, http.MethodPost, "/transfers", c.body, headers...), c.status, c.slug, c.field)
		})
	}
}

// limit validates by pointer, as a type does that sets its defaults on the way.
type limit struct {
	Items int `json:"items"`
}

func (l *limit) Validate() error {
	if l.Items == 0 {
		l.Items = 20
	}
	if l.Items < 0 {
		return errors.New("negative")
	}
	return nil
}

func TestDecode_ValidatesByPointerReceiver(t *testing.T) {
	t.Parallel()
	if _, err := web.Decode[limit]([]byte(`{"items":-1}`)); err == nil {
		t.Error("a value that its own Validate refuses was accepted")
	}
	if in, err := web.Decode[limit]([]byte(`{}`)); err != nil || in.Items != 20 {
		t.Errorf("%+v, %v; want what Validate has set", in, err)
	}
}

func TestBind_HandsTheBodyOnByteForByte(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	body := "{ \"amount\" : {\"minor\":9223372036854775807,\"currency\":\"GBP\"},\n\"reference\":\"£\\u00e9\" }"
	a := s.send(t, http.MethodPost, "/transfers", body, "Content-Type", "application/json; charset=utf-8")
	if a.status != http.StatusCreated || a.body != body {
		t.Errorf("got %d %q: the fingerprint of this request would be another's", a.status, a.body)
	}
}
