package idempotency

import (
	_ "embed"
	"net/http"
	"strings"
	"time"

	"example.com/failwell/shared/platform/problem"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// HeaderKey is the request header that carries the key.
const HeaderKey = "Idempotency-Key"

// maxKey bounds a key, in characters.
const maxKey = 255

// Request is a request that may come again.
//
// Pattern: idempotency-key
type Request struct {
	Merchant    string
	Operation   string // method and path template: POST /v1/orders
	Key         string
	Fingerprint [32]byte

	// Retention is how long the answer is kept. A client that retries later
	// than that starts something new, so it is part of the published contract.
	Retention time.Duration
}

// The refusals of a request whose key cannot be read.
var (
	errKeyRequired = problem.New(http.StatusBadRequest, "idempotency-key-required", "Idempotency-Key required",
		"Name this request with an Idempotency-Key of your own, and send the same one when you retry.").WithField(HeaderKey)
	errKeyInvalid = problem.New(http.StatusBadRequest, "idempotency-key-invalid", "Idempotency-Key not valid",
		"One key of 1 to 255 visible ASCII characters, with or without double quotes around it.").WithField(HeaderKey)
)

// FromRequest reads the key of a request to an operation and takes the fingerprint of its
// body, which the caller has read. Errors are problems: 400 when the key is missing or
// malformed.
func FromRequest(r *http.Request, merchant, operation string, body []byte, retention time.Duration) (Request, error) {
	values := r.Header.Values(HeaderKey)
	if len(values) == 0 {
		return Request{}, errKeyRequired
	}
	key, ok := parseKey(values[0])
	if !ok || len(values) > 1 {
		return Request{}, errKeyInvalid
	}
	fingerprint, err := fingerprint(r.Method, r.URL.Path, body)
	if err != nil {
		return Request{}, problem.New(http.StatusBadRequest, "malformed-json", "Malformed JSON", err.Error())
	}
	return Request{Merchant: merchant, Operation: operation, Key: key, Fingerprint: fingerprint, Retention: retention}, nil
}

// parseKey reads a structured field string ("…" with \" and \\ escaped) or a bare
// token. `"abc"` and `abc` name the same request: clients differ in whether they
// quote, and one client may change its mind between two tries.
func parseKey(header string) (string, bool) {
	if len(header) > 2*maxKey+2 { // each character escaped, in quotes: whatever is longer is not looked at
		return "", false
	}
	s := strings.Trim(header, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return unquote(s[1 : len(s)-1])
	}
	if strings.ContainsAny(s, `"\,; `) {
		return "", false
	}
	return s, valid(s)
}

func unquote(s string) (string, bool) {
	var key strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		case s[i] == '"' || s[i] == '\\':
			return "", false
		}
		key.WriteByte(s[i])
	}
	return key.String(), valid(key.String())
}

func valid(key string) bool {
	if key == "" || len(key) > maxKey {
		return false
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}
