package conform

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Edge are the cases for any endpoint that takes JSON: what it does with bodies, headers
// and methods that an ordinary client does not send.
var Edge = []Case{
	{"not-utf-8", "a body that is not UTF-8 is refused: 4xx", "RFC 8259, 8.1", func(ctx context.Context, t *Target) error {
		return t.refusesBody(ctx, intoText("\xff"), nil)
	}},
	{"other-charset", "a body that says it is in another charset is refused: 4xx", "RFC 9110, 15.5.16", func(ctx context.Context, t *Target) error {
		return t.refusesBody(ctx, unchanged, map[string]string{"Content-Type": "application/json; charset=iso-8859-1"})
	}},
	{"compressed", "a body in gzip is taken (2xx), or refused for it (415)", "RFC 9110, 15.5.16", compressed},
	{"zero-byte", `\u0000 in a text is taken or refused, and is no error of the server`, ours, func(ctx context.Context, t *Target) error {
		a, err := t.send(ctx, intoText(`\u0000`), nil)
		if err == nil && a.Status >= http.StatusInternalServerError {
			err = unexpected(a, "2xx or 4xx")
		}
		return err
	}},
	{"name-twice", "a name that stands twice in an object is refused: 4xx", "RFC 7493, 2.3", func(ctx context.Context, t *Target) error {
		return t.refusesBody(ctx, nameTwice, nil)
	}},
	{"unknown-name", "a name that the endpoint does not know is refused: 4xx", ours, func(ctx context.Context, t *Target) error {
		return t.refusesBody(ctx, unknownName, nil)
	}},
	{"other-case", "a name in capital letters is another name, and is refused: 4xx", ours, func(ctx context.Context, t *Target) error {
		return t.refusesBody(ctx, otherCase, nil)
	}},
	{"huge-headers", "a megabyte of headers is refused, or the connection is closed", "RFC 9110, 5.4", func(ctx context.Context, t *Target) error {
		a, err := t.send(ctx, unchanged, map[string]string{"X-Request-Id": strings.Repeat("x", 1<<20)})
		if err == nil && !a.refused() {
			err = fmt.Errorf("status %d instead of 4xx", a.Status)
		} else if err != nil && ctx.Err() == nil && !errors.Is(err, errNoBody) {
			err = nil // cut off while we were still sending
		}
		return err
	}},
	{"request-id-echoed", "an X-Request-Id of 4,000 characters is not repeated in the answer", ours, func(ctx context.Context, t *Target) error {
		id := strings.Repeat("x", 4000)
		a, err := t.post(ctx, []byte(`{`), map[string]string{"X-Request-Id": id, keyHeader: newKey()})
		if err == nil && (a.Header.Get("X-Request-Id") == id || bytes.Contains(a.Body, []byte(id))) {
			err = errors.New("it is repeated")
		}
		return err
	}},
	{"nosniff", "answers carry X-Content-Type-Options: nosniff", "Fetch standard, nosniff", func(ctx context.Context, t *Target) error {
		a, err := t.post(ctx, []byte(`{`), nil)
		if err == nil && !strings.EqualFold(a.Header.Get("X-Content-Type-Options"), "nosniff") {
			err = errors.New("no such header")
		}
		return err
	}},
	{"no-store", "answers carry Cache-Control: no-store, as what they say is for one client and changes", "RFC 9111, 5.2.2.5", func(ctx context.Context, t *Target) error {
		a, err := t.post(ctx, []byte(`{`), nil)
		if err == nil && !strings.Contains(a.Header.Get("Cache-Control"), "no-store") {
			err = errors.New("no such header")
		}
		return err
	}},
	{"escaped-path", "the Location of an answer with a character percent-encoded (%41 for A) leads to the same", "RFC 3986, 6.2.2.2", escapedPath},
	{"zero-byte-in-path", "the Location of an answer with %00 behind it is refused: 4xx", ours, func(ctx context.Context, t *Target) error {
		return t.refusesAtLocation(ctx, "%00")
	}},
	{"long-id", "the Location of an answer with 4,000 characters behind it is refused: 4xx", ours, func(ctx context.Context, t *Target) error {
		return t.refusesAtLocation(ctx, strings.Repeat("x", 4000))
	}},
	{"head", "HEAD at the Location of an answer is answered as GET, without the body", "RFC 9110, 9.3.2", head},
}

var errNoBody = errors.New("no body to send")

// send sends a new request with its body changed.
func (t *Target) send(ctx context.Context, change func([]byte) ([]byte, error), header map[string]string) (Answer, error) {
	body, err := t.Body(ctx)
	if err == nil {
		body, err = change(body)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errNoBody, err)
	}
	all := map[string]string{keyHeader: newKey()}
	maps.Copy(all, header)
	return t.post(ctx, body, all)
}

func (t *Target) refusesBody(ctx context.Context, change func([]byte) ([]byte, error), header map[string]string) error {
	a, err := t.send(ctx, change, header)
	if err == nil && !a.refused() {
		err = unexpected(a, "4xx")
	}
	return err
}

func unchanged(body []byte) ([]byte, error) { return body, nil }

var textValue = regexp.MustCompile(`:\s*"[^"\\]*`)

// intoText puts something at the end of the first text that is a value.
func intoText(something string) func([]byte) ([]byte, error) {
	return func(body []byte) ([]byte, error) {
		at := textValue.FindIndex(body)
		if at == nil {
			return nil, fmt.Errorf("%w: there is no text in the body", ErrNotJudged)
		}
		return slices.Concat(body[:at[1]], []byte(something), body[at[1]:]), nil
	}
}

func nameTwice(body []byte) ([]byte, error) {
	members, err := membersOf(body)
	if err != nil {
		return nil, err
	}
	name := slices.Sorted(maps.Keys(members))[0]
	return slices.Concat(fmt.Appendf(nil, "{%q:%s,", name, members[name]), bytes.TrimSpace(body)[1:]), nil
}

func unknownName(body []byte) ([]byte, error) {
	_, err := membersOf(body)
	return slices.Concat([]byte(`{"conform":1,`), bytes.TrimSpace(body)[1:]), err
}

func otherCase(body []byte) ([]byte, error) {
	members, err := membersOf(body)
	if err != nil {
		return nil, err
	}
	name := slices.Sorted(maps.Keys(members))[0]
	members[strings.ToUpper(name)] = members[name]
	delete(members, name)
	return json.Marshal(members)
}

func membersOf(body []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || len(members) == 0 {
		return nil, fmt.Errorf("%w: the body is no JSON object with members", ErrNotJudged)
	}
	return members, nil
}

func compressed(ctx context.Context, t *Target) error {
	a, err := t.send(ctx, func(body []byte) ([]byte, error) {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(body)
		return packed.Bytes(), errors.Join(err, w.Close())
	}, map[string]string{"Content-Encoding": "gzip"})
	if err == nil && !a.ok() && a.Status != http.StatusUnsupportedMediaType {
		err = unexpected(a, "2xx or 415")
	}
	return err
}

// location is where the answer to a new request leads.
func (t *Target) location(ctx context.Context) (*Target, error) {
	first, err := t.send(ctx, unchanged, nil)
	if err != nil {
		return nil, err
	}
	location := first.Header.Get("Location")
	if !first.ok() || location == "" {
		return nil, fmt.Errorf("%w: the answer has no Location", ErrNotJudged)
	}
	base, err := url.Parse(t.URL)
	if err != nil {
		return nil, err
	}
	there, err := base.Parse(location)
	if err != nil {
		return nil, err
	}
	at := *t
	at.URL = there.String()
	return &at, nil
}

func (t *Target) refusesAtLocation(ctx context.Context, behind string) error {
	at, err := t.location(ctx)
	if err != nil {
		return err
	}
	at.URL += behind
	a, err := at.do(ctx, http.MethodGet, nil, nil)
	if err == nil && !a.refused() {
		err = unexpected(a, "4xx")
	}
	return err
}

func escapedPath(ctx context.Context, t *Target) error {
	at, err := t.location(ctx)
	if err != nil {
		return err
	}
	got, err := at.do(ctx, http.MethodGet, nil, nil)
	if err != nil {
		return err
	}
	last := len(at.URL) - 1
	at.URL = fmt.Sprintf("%s%%%02X", at.URL[:last], at.URL[last])
	a, err := at.do(ctx, http.MethodGet, nil, nil)
	if err == nil && a.Status != got.Status {
		err = fmt.Errorf("as it is it is answered with %d, escaped with %d", got.Status, a.Status)
	}
	return err
}

func head(ctx context.Context, t *Target) error {
	at, err := t.location(ctx)
	if err != nil {
		return err
	}
	got, err := at.do(ctx, http.MethodGet, nil, nil)
	if err != nil {
		return err
	}
	a, err := at.do(ctx, http.MethodHead, nil, nil)
	if err == nil && (a.Status != got.Status || a.Header.Get("Content-Type") != got.Header.Get("Content-Type")) {
		err = fmt.Errorf("GET is answered with %d %s, HEAD with %d %s",
			got.Status, got.Header.Get("Content-Type"), a.Status, a.Header.Get("Content-Type"))
	}
	return err
}
