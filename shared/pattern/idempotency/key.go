package idempotency

import (
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/web"
)

// HeaderKey is the request header that carries the key.
const HeaderKey = "Idempotency-Key"

// maxKey bounds a key, in characters.
const maxKey = 255

// Request is a request that may come again.
//
// Pattern: idempotency-key
type Request struct {
	Merchant    string
	Operation   string // method and path template
	Key         string
	Fingerprint [32]byte

	// Retention is how long the answer is kept. A client that retries later
	// than that starts something new, so it is part of the published contract.
	Retention time.Duration
}

// FromRequest reads the key of a request and takes the fingerprint of its body.
// Errors are problems: 400 when the key is missing or malformed.
func FromRequest(c echo.Context, merchant string, body []byte, retention time.Duration) (Request, error) {
	values := c.Request().Header.Values(HeaderKey)
	if len(values) == 0 {
		return Request{}, web.NewProblem(http.StatusBadRequest, "idempotency-key-required", "Idempotency-Key required",
			"Name this request with an Idempotency-Key of your own, and send the same one when you retry.").WithField(HeaderKey)
	}
	key, ok := parseKey(values[0])
	if !ok || len(values) > 1 {
		return Request{}, web.NewProblem(http.StatusBadRequest, "idempotency-key-invalid", "Idempotency-Key not valid",
			"One key of 1 to 255 visible ASCII characters, with or without double quotes around it.").WithField(HeaderKey)
	}
	fingerprint, err := fingerprint(c.Request().Method, c.Request().URL.Path, body)
	if err != nil {
		return Request{}, web.NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", err.Error())
	}
	return Request{
		Merchant: merchant, Operation: c.Request().Method + " " + c.Path(), Key: key,
		Fingerprint: fingerprint, Retention: retention,
	}, nil
}

// parseKey reads a structured field string ("…" with \" and \\ escaped) or a bare
// token. `"abc"` and `abc` name the same request: clients differ in whether they
// quote, and one client may change its mind between two tries.
func parseKey(header string) (string, bool) {
	s := strings.TrimSpace(header)
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
