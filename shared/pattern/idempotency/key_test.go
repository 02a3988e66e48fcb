package idempotency_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/problem"
)

// parse makes a request of its own and reads it.
func parse(method, path, body string, keys ...string) (idempotency.Request, error) {
	r := httptest.NewRequest(method, path, nil)
	r.Header[idempotency.HeaderKey] = keys
	return idempotency.FromRequest(r, "acme", method+" /orders", []byte(body), retention)
}

// wantProblem checks that err refuses the request and says why.
func wantProblem(t interface{ Errorf(string, ...any) }, err error, slug, field string) {
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusBadRequest || !strings.HasSuffix(p.Type, "/"+slug) || p.Field != field {
		t.Errorf("got %v, want 400 %s, field %q", err, slug, field)
	}
}

// A key that two readers could read differently is no name for a request.
func TestKey_IsReadInOneWayOrRefused(t *testing.T) {
	t.Parallel()
	const missing, invalid = "idempotency-key-required", "idempotency-key-invalid"
	for name, c := range map[string]struct {
		header []string
		want   string // the key
		slug   string // or why there is none
	}{
		"bare":                            {header: []string{"abc-1_2.3"}, want: "abc-1_2.3"},
		"quoted is the same":              {header: []string{`"abc-1_2.3"`}, want: "abc-1_2.3"},
		"UUID":                            {header: []string{"8e03978e-40d5-43dd-bc93-6894a57f9324"}, want: "8e03978e-40d5-43dd-bc93-6894a57f9324"},
		"white space around":              {header: []string{" \tabc "}, want: "abc"},
		"white space around quotes":       {header: []string{` "abc" `}, want: "abc"},
		"space inside quotes":             {header: []string{`"a b"`}, want: "a b"},
		"comma inside quotes":             {header: []string{`"a, b;c"`}, want: "a, b;c"},
		"escaped quote":                   {header: []string{`"a\"b"`}, want: `a"b`},
		"escaped backslash":               {header: []string{`"a\\b"`}, want: `a\b`},
		"escaped backslash, then the end": {header: []string{`"a\\"`}, want: `a\`},
		"255 characters":                  {header: []string{strings.Repeat("k", 255)}, want: strings.Repeat("k", 255)},
		"255 characters after escapes":    {header: []string{`"` + strings.Repeat(`\"`, 255) + `"`}, want: strings.Repeat(`"`, 255)},

		"no header":               {header: nil, slug: missing},
		"empty":                   {header: []string{""}, slug: invalid},
		"only white space":        {header: []string{"  "}, slug: invalid},
		"empty quotes":            {header: []string{`""`}, slug: invalid},
		"two headers":             {header: []string{"abc", "def"}, slug: invalid},
		"two equal headers":       {header: []string{"abc", "abc"}, slug: invalid},
		"a list":                  {header: []string{"abc, def"}, slug: invalid},
		"a list without space":    {header: []string{"abc,def"}, slug: invalid},
		"a list of quoted ones":   {header: []string{`"abc", "def"`}, slug: invalid},
		"parameters":              {header: []string{`"abc";p=1`}, slug: invalid},
		"bare with parameters":    {header: []string{"abc;p=1"}, slug: invalid},
		"space inside bare":       {header: []string{"a b"}, slug: invalid},
		"quote inside bare":       {header: []string{`a"b`}, slug: invalid},
		"backslash in bare":       {header: []string{`a\b`}, slug: invalid},
		"opening quote only":      {header: []string{`"abc`}, slug: invalid},
		"closing quote only":      {header: []string{`abc"`}, slug: invalid},
		"a single quote sign":     {header: []string{`"`}, slug: invalid},
		"closing quote escaped":   {header: []string{`"abc\"`}, slug: invalid},
		"unknown escape":          {header: []string{`"a\nb"`}, slug: invalid},
		"256 characters":          {header: []string{strings.Repeat("k", 256)}, slug: invalid},
		"256 quoted characters":   {header: []string{`"` + strings.Repeat("k", 256) + `"`}, slug: invalid},
		"very long, and a key":    {header: []string{strings.Repeat("\u00a0", 500_000) + "k1"}, slug: invalid},
		"no-break space":          {header: []string{"\u00a0k1"}, slug: invalid},
		"NUL":                     {header: []string{"a\x00b"}, slug: invalid},
		"line break":              {header: []string{"a\nb"}, slug: invalid},
		"tabulator inside":        {header: []string{"a\tb"}, slug: invalid},
		"tabulator inside quotes": {header: []string{"\"a\tb\""}, slug: invalid},
		"DEL":                     {header: []string{"a\x7fb"}, slug: invalid},
		"not ASCII":               {header: []string{"schlüssel"}, slug: invalid},
		"not ASCII in quotes":     {header: []string{`"schlüssel"`}, slug: invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := parse(http.MethodPost, "/orders", "{}", c.header...)
			if c.slug != "" {
				wantProblem(t, err, c.slug, idempotency.HeaderKey)
				return
			}
			if err != nil || r.Key != c.want {
				t.Errorf("key %q, %v; want %q", r.Key, err, c.want)
			}
			if r.Merchant != "acme" || r.Operation != "POST /orders" || r.Retention != retention {
				t.Errorf("read as %+v", r)
			}
		})
	}
}
