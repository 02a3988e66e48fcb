package web_test

import (
	"bytes"
	"compress/gzip"
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

// none mounts no route.
func none(*echo.Echo) {}

// transfers answers with the reference that Bind has read.
func transfers(e *echo.Echo) {
	e.POST("/transfers", func(c echo.Context) error {
		in, err := web.Bind[transfer](c)
		if err != nil {
			return err
		}
		return c.String(http.StatusCreated, in.Reference)
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
		"nested beyond reason":   {body: strings.Repeat("[", 20_000), status: 422, slug: "invalid-field"},
		"null":                   {body: "null", status: 422, slug: "invalid-field", field: "reference"},
		"unknown field":          {body: `{"reference":"r","amont":{}}`, status: 422, slug: "unknown-field", field: "amont"},
		"unknown field inside":   {body: `{"reference":"r","amount":{"major":12}}`, status: 422, slug: "unknown-field", field: "amount.major"},
		"another case":           {body: `{"REFERENCE":"r"}`, status: 422, slug: "unknown-field", field: "REFERENCE"},
		"another case inside":    {body: `{"reference":"r","amount":{"Minor":1}}`, status: 422, slug: "unknown-field", field: "amount.Minor"},
		"a name twice":           {body: `{"reference":"r","reference":"s"}`, status: 400, slug: "malformed-json", field: "reference"},
		"a name twice inside":    {body: `{"amount":{"minor":99900,"minor":1}}`, status: 400, slug: "malformed-json", field: "amount.minor"},
		"a name twice, escaped":  {body: `{"reference":"r","\u0072eference":"s"}`, status: 400, slug: "malformed-json", field: "reference"},
		"two nested objects":     {body: `{"amount":{"minor":99900,"currency":"GBP"},"amount":{"minor":1}}`, status: 400, slug: "malformed-json", field: "amount"},
		"Latin-1":                {body: "{\"reference\":\"Jos\xe9\"}", status: 400, slug: "not-utf-8"},
		"half a surrogate":       {body: `{"reference":"\ud800"}`, status: 400, slug: "malformed-json", field: "reference"},
		"a zero byte":            {body: `{"reference":"r\u0000"}`, status: 400, slug: "zero-byte"},
		"a name of 60 kB":        {body: `{"` + strings.Repeat("<", 60_000) + `":1}`, status: 422, slug: "unknown-field", field: strings.Repeat("<", 500) + "…"},
		"another type":           {body: `{"reference":7}`, status: 422, slug: "invalid-field", field: "reference"},
		"another type inside":    {body: `{"reference":"r","amount":{"minor":"1250"}}`, status: 422, slug: "invalid-field", field: "amount.minor"},
		"fraction of a penny":    {body: `{"reference":"r","amount":{"minor":12.5}}`, status: 422, slug: "invalid-field", field: "amount.minor"},
		"more than 64 bits":      {body: `{"reference":"r","amount":{"minor":9223372036854775808}}`, status: 422, slug: "invalid-field", field: "amount.minor"},
		"an array":               {body: `[` + fine + `]`, status: 422, slug: "invalid-field"},
		"fails its own check":    {body: `{"reference":""}`, status: 422, slug: "invalid-field", field: "reference"},
		"another charset":        {body: fine, contentType: "application/json; charset=iso-8859-1", status: 415, slug: "unsupported-charset", field: "Content-Type"},
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

func TestBind_TakesWhatIsUnusualAndRight(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	for body, want := range map[string]string{
		"{ \"amount\" : {\"minor\":9223372036854775807,\"currency\":\"GBP\"},\n\"reference\":\"£\\u00e9\" }": "£é",
		`{"reference":"a backslash: \\u0000"}`:       `a backslash: \u0000`,
		`{"reference":"\ud83d\ude00 is one letter"}`: "😀 is one letter",
	} {
		a := s.send(t, http.MethodPost, "/transfers", body, "Content-Type", `application/json; charset="UTF-8"`, "Content-Encoding", "identity")
		if a.status != http.StatusCreated || a.body != want {
			t.Errorf("%s: got %d %q", body, a.status, a.body)
		}
	}
}

func TestBind_CompressedBodyIsRefusedByItsHeader(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	_, _ = w.Write([]byte(`{"reference":"r"}`))
	_ = w.Close()
	a := s.send(t, http.MethodPost, "/transfers", body.String(), "Content-Type", "application/json", "Content-Encoding", "gzip")
	wantProblem(t, a, http.StatusUnsupportedMediaType, "unsupported-content-encoding", "Content-Encoding")
}
