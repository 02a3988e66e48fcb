package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"example.com/failwell/shared/platform/wait"
)

const keyHeader = "Idempotency-Key"

// newKey is a key as the draft writes it: a string in quotes (section 2.1).
func newKey() string { return `"` + uuid.NewString() + `"` }

// Idempotency are the cases for an endpoint that takes an idempotency key.
var Idempotency = []Case{
	{"key-required", "a request without a key is refused with 400", draft + "2.7", func(ctx context.Context, t *Target) error {
		a, err := t.try(ctx, "")
		if err == nil && a.Status != http.StatusBadRequest {
			err = unexpected(a, "400")
		}
		return err
	}},
	{"key-empty", `an empty key ("") is refused: 4xx`, ours, func(ctx context.Context, t *Target) error {
		return t.refuses(ctx, `""`)
	}},
	{"key-over-long", "a key of 10,000 characters is refused: 4xx", ours, func(ctx context.Context, t *Target) error {
		return t.refuses(ctx, `"`+strings.Repeat("k", 10_000)+`"`)
	}},
	{"first-time", "a new key, a string in quotes, does the work: 2xx", draft + "2.1, 2.6", func(ctx context.Context, t *Target) error {
		_, _, err := t.first(ctx, newKey())
		return err
	}},
	{"replay-equal", "the same request again gets the same status and, byte for byte, the same body", draft + "2.6", func(ctx context.Context, t *Target) error {
		first, again, err := t.first(ctx, newKey())
		if err != nil {
			return err
		}
		for range 3 {
			a, err := again()
			if err != nil {
				return err
			}
			if a.Status != first.Status || !bytes.Equal(a.Body, first.Body) {
				return fmt.Errorf("first %d %s, then %d %s", first.Status, first.Body, a.Status, a.Body)
			}
		}
		return nil
	}},
	{"other-key-other-work", "a new request under another key is other work, also when it asks for the same", draft + "2.2", func(ctx context.Context, t *Target) error {
		one, _, err := t.first(ctx, newKey())
		if err != nil {
			return err
		}
		other, _, err := t.first(ctx, newKey())
		if err != nil {
			return err
		}
		same, err := one.same(other)
		if same {
			err = fmt.Errorf("two keys, one answer: %s", one.Body)
		}
		return err
	}},
	{"mismatch", "the same key with other content is refused with 422", draft + "2.7", mismatch},
	{"concurrent", "twenty at once under one key are one piece of work: every answer is the same; the others are told to come back (409)", draft + "2.6, 2.7", concurrent},
	{"errors-are-problems", "a refusal is application/problem+json, or links to its description (rel=describedby)", draft + "2.7", func(ctx context.Context, t *Target) error {
		a, err := t.try(ctx, "")
		if err != nil {
			return err
		}
		kind, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
		if kind != "application/problem+json" && !strings.Contains(strings.Join(a.Header.Values("Link"), ","), "describedby") {
			return fmt.Errorf("status %d, Content-Type: %q, Link: %q", a.Status, a.Header.Get("Content-Type"), a.Header.Get("Link"))
		}
		return nil
	}},
	{"refused-is-not-recorded", "a malformed request does not use its key up: fixed, it is worked on", draft + "2.7", func(ctx context.Context, t *Target) error {
		key := newKey()
		a, err := t.post(ctx, []byte(`{`), map[string]string{keyHeader: key})
		if err != nil {
			return err
		}
		if !a.refused() {
			return fmt.Errorf("malformed: %w", unexpected(a, "4xx"))
		}
		if _, _, err = t.first(ctx, key); err != nil {
			err = fmt.Errorf("fixed: %w", err)
		}
		return err
	}},
	{"expiry", "once the published retention is over, the key is new again: other work, another answer", draft + "2.3", expiry},
}

// first sends a new request under a key that shall do work, and returns how to
// send it again.
func (t *Target) first(ctx context.Context, key string) (a Answer, again func() (Answer, error), err error) {
	body, err := t.Body(ctx)
	if err != nil {
		return a, nil, err
	}
	again = func() (Answer, error) { return t.post(ctx, body, map[string]string{keyHeader: key}) }
	a, err = again()
	if err == nil && !a.ok() {
		err = unexpected(a, "2xx")
	}
	return a, again, err
}

// try sends a new request under a key ("": without one) that need not do work.
func (t *Target) try(ctx context.Context, key string) (Answer, error) {
	body, err := t.Body(ctx)
	if err != nil {
		return Answer{}, err
	}
	header := map[string]string{}
	if key != "" {
		header[keyHeader] = key
	}
	return t.post(ctx, body, header)
}

func (t *Target) refuses(ctx context.Context, key string) error {
	a, err := t.try(ctx, key)
	if err == nil && !a.refused() {
		err = unexpected(a, "4xx")
	}
	return err
}

func unexpected(a Answer, wanted string) error {
	return fmt.Errorf("status %d instead of %s: %s", a.Status, wanted, a.Body)
}

func mismatch(ctx context.Context, t *Target) error {
	key := newKey()
	body, err := t.Body(ctx)
	if err != nil {
		return err
	}
	a, err := t.post(ctx, body, map[string]string{keyHeader: key})
	if err != nil {
		return err
	}
	if !a.ok() {
		return fmt.Errorf("the first request: %w", unexpected(a, "2xx"))
	}
	other, err := t.Body(ctx)
	if err == nil && bytes.Equal(body, other) {
		other, err = changed(body)
	}
	if err != nil {
		return err
	}
	a, err = t.post(ctx, other, map[string]string{keyHeader: key})
	if err == nil && a.Status != http.StatusUnprocessableEntity {
		err = fmt.Errorf("then %s: %w", other, unexpected(a, "422"))
	}
	return err
}

// changed is a request that asks for something else and is as well formed: one
// number is another one; where there is no number, there is a member more.
func changed(body []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var request map[string]any
	if err := decoder.Decode(&request); err != nil {
		return nil, errors.New("every body is the same, and no JSON object that could be changed: make each another one")
	}
	if !increment(request) {
		request["conform"] = "another request"
	}
	return json.Marshal(request)
}

// increment adds one to the first whole number, by the order of the names.
func increment(object map[string]any) bool {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch value := object[name].(type) {
		case json.Number:
			if n, err := value.Int64(); err == nil {
				object[name] = json.Number(strconv.FormatInt(n+1, 10))
				return true
			}
		case map[string]any:
			if increment(value) {
				return true
			}
		}
	}
	return false
}

func concurrent(ctx context.Context, t *Target) error {
	key := newKey()
	body, err := t.Body(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	answers := map[string]int{}
	var wrong error
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			a, err := t.post(ctx, body, map[string]string{keyHeader: key})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				wrong = err
			case a.ok():
				answers[fmt.Sprint(a.Status)+string(a.Body)]++
			case a.Status != http.StatusConflict:
				wrong = unexpected(a, "2xx or 409")
			}
		})
	}
	clients.Wait()
	if wrong == nil && len(answers) != 1 {
		wrong = fmt.Errorf("%d different answers", len(answers))
	}
	return wrong
}

func expiry(ctx context.Context, t *Target) error {
	if t.Retention == 0 {
		return fmt.Errorf("%w: how long is a key kept? Say it with --retention", ErrNotJudged)
	}
	key := newKey()
	before, _, err := t.first(ctx, key)
	if err != nil {
		return err
	}
	if !wait.For(ctx, t.Retention) {
		return ctx.Err()
	}
	after, _, err := t.first(ctx, key)
	if err != nil {
		return fmt.Errorf("after %s: %w", t.Retention, err)
	}
	same, err := before.same(after)
	if same {
		err = fmt.Errorf("after %s still the first answer: %s", t.Retention, after.Body)
	}
	return err
}
