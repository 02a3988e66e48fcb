package idempotency_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// value is a JSON value apart from how it is written.
type value struct {
	kind  byte     // 'n' number, true, false or null; 's' string; 'a' array; 'o' object
	text  string   // of the first two
	items []*value // of the last two
	keys  []string // beside the items, of objects
}

var (
	plain = rapid.SampledFrom([]string{"null", "true", "false", "0", "-0", "1", "1.0", "1e0", "10", "-1", "4990",
		"9007199254740992", "9007199254740993", "123456789012345678901234567890", "123456789012345678901234567891"})
	word = rapid.StringOfN(rapid.RuneFrom([]rune("ab01\"\\/\n {}[]:,é€\u2028<&\x00")), 0, 4, -1)
)

func drawScalar(t *rapid.T) *value {
	if rapid.Bool().Draw(t, "string") {
		return &value{kind: 's', text: word.Draw(t, "text")}
	}
	return &value{kind: 'n', text: plain.Draw(t, "plain")}
}

func drawValue(t *rapid.T, depth int) *value {
	kind := rapid.SampledFrom([]byte("saoo")).Draw(t, "kind")
	if depth == 0 || kind == 's' {
		return drawScalar(t)
	}
	v := &value{kind: kind}
	if kind == 'o' {
		v.keys = rapid.SliceOfNDistinct(word, 0, 4, rapid.ID[string]).Draw(t, "keys")
	}
	n := len(v.keys)
	if kind == 'a' {
		n = rapid.IntRange(0, 3).Draw(t, "length")
	}
	for range n {
		v.items = append(v.items, drawValue(t, depth-1))
	}
	return v
}

// write spells v in one of the many ways: order of keys, white space, escapes.
func (v *value) write(t *rapid.T, out *strings.Builder) {
	space := func() {
		out.WriteString(rapid.SampledFrom([]string{"", "", " ", "\n", "\t\r\n  "}).Draw(t, "space"))
	}
	space()
	defer space()
	switch v.kind {
	case 'n':
		out.WriteString(v.text)
	case 's':
		writeString(t, v.text, out)
	case 'a':
		out.WriteString("[")
		for i, item := range v.items {
			if i > 0 {
				out.WriteString(",")
			}
			item.write(t, out)
		}
		out.WriteString("]")
	case 'o':
		order := make([]int, len(v.keys))
		for i := range order {
			order[i] = i
		}
		out.WriteString("{")
		for n, i := range rapid.Permutation(order).Draw(t, "order") {
			if n > 0 {
				out.WriteString(",")
			}
			space()
			writeString(t, v.keys[i], out)
			space()
			out.WriteString(":")
			v.items[i].write(t, out)
		}
		out.WriteString("}")
	}
}

func writeString(t *rapid.T, s string, out *strings.Builder) {
	if rapid.Bool().Draw(t, "escape all") {
		out.WriteString(`"`)
		for _, r := range s {
			fmt.Fprintf(out, `\u%04x`, r)
		}
		out.WriteString(`"`)
		return
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(rapid.Bool().Draw(t, "escape HTML"))
	if err := encoder.Encode(s); err != nil {
		t.Fatal(err)
	}
}

func (v *value) spell(t *rapid.T) string {
	var out strings.Builder
	v.write(t, &out)
	return out.String()
}

// all lists v and everything in it.
func (v *value) all() []*value {
	list := []*value{v}
	for _, item := range v.items {
		list = append(list, item.all()...)
	}
	return list
}

// change makes one change, somewhere in v, that asks for something else.
func (v *value) change(t *rapid.T) {
	at := rapid.SampledFrom(v.all()).Draw(t, "changed")
	last := len(at.items) - 1
	switch how := rapid.IntRange(0, 3).Draw(t, "how"); {
	case how == 0 || at.kind == 'n' || at.kind == 's': // another value in its place
		was := *at
		*at = *rapid.Custom(drawScalar).Filter(func(s *value) bool { return s.kind != was.kind || s.text != was.text }).Draw(t, "instead")
	case how == 1 && last >= 0: // one less
		at.items = at.items[:last]
		at.keys = at.keys[:min(last, len(at.keys))]
	case how == 2 && last >= 0 && at.kind == 'o': // under another name
		at.keys[last] = "other"
	default: // one more; no drawn key is called that
		at.items = append(at.items, drawScalar(t))
		if at.kind == 'o' {
			at.keys = append(at.keys, "other")
		}
	}
}

func fingerprint(t *rapid.T, body string) [32]byte {
	r, err := parse(http.MethodPost, "/orders", body, "k")
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r.Fingerprint
}

func TestFingerprint_IsTheSameForAnotherSpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(t, 3)
		one, other := v.spell(t), v.spell(t)
		if fingerprint(t, one) != fingerprint(t, other) {
			t.Errorf("two requests:\n%s\n%s", one, other)
		}
	})
}

func TestFingerprint_DiffersWhereverTheRequestDiffers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(t, 3)
		before := v.spell(t)
		v.change(t)
		after := v.spell(t)
		if fingerprint(t, before) == fingerprint(t, after) {
			t.Errorf("one request:\n%s\n%s", before, after)
		}
	})
}

// A reader of the body takes the first or the last of two equal keys; the
// fingerprint must not be of the other one.
func TestFingerprint_RefusesADuplicateKeyInAnObject(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		inner := &value{kind: 'o', keys: []string{"a", "b"}, items: []*value{drawValue(t, 1), drawValue(t, 1)}}
		v := inner
		for range rapid.IntRange(0, 3).Draw(t, "depth") {
			v = &value{kind: 'o', keys: []string{"x", "y"}, items: []*value{v, {kind: 'a', items: []*value{drawScalar(t), v}}}}
		}
		fingerprint(t, v.spell(t)) // so far there is nothing against it
		inner.keys, inner.items = append(inner.keys, "a"), append(inner.items, inner.items[0])
		body := v.spell(t)
		if _, err := parse(http.MethodPost, "/orders", body, "k"); err == nil {
			t.Errorf("accepted: %s", body)
		} else {
			wantProblem(t, err, "malformed-json", "")
		}
	})
}

func TestFingerprint_DiffersForRequestsThatLookAlike(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]string{}
	for _, r := range [][3]string{
		{http.MethodPost, "/orders", ""}, {http.MethodPut, "/orders", ""}, {http.MethodPost, "/orders/", ""}, {http.MethodPost, "/order", ""},
		{http.MethodPost, "/orders", "null"}, {http.MethodPost, "/orders", `""`}, {http.MethodPost, "/orders", "{}"}, {http.MethodPost, "/orders", "[]"},
		{http.MethodPost, "/orders", "1"}, {http.MethodPost, "/orders", "1.0"}, {http.MethodPost, "/orders", `"1"`}, {http.MethodPost, "/orders", `[1]`},
		{http.MethodPost, "/orders", "[1,2]"}, {http.MethodPost, "/orders", "[2,1]"}, {http.MethodPost, "/orders", "[12]"}, {http.MethodPost, "/orders", "[[1],2]"},
		{http.MethodPost, "/orders", `{"a":null}`}, {http.MethodPost, "/orders", `{"a":{}}`}, {http.MethodPost, "/orders", `{"A":null}`},
		{http.MethodPost, "/orders", `{"a":{"b":1},"c":2}`}, {http.MethodPost, "/orders", `{"a":{"b":1,"c":2}}`},
		{http.MethodPost, "/orders", `{"a":1,"b":2}`}, {http.MethodPost, "/orders", `{"a:1,b":2}`}, {http.MethodPost, "/orders", `{"a\":1,\"b":2}`},
		{http.MethodPost, "/orders", `{"a":9007199254740992}`}, {http.MethodPost, "/orders", `{"a":9007199254740993}`},
	} {
		read, err := parse(r[0], r[1], r[2], "k")
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		if other, twice := seen[read.Fingerprint]; twice {
			t.Errorf("%v is taken for %s", r, other)
		}
		seen[read.Fingerprint] = fmt.Sprint(r)
	}
}

func TestFingerprint_RefusesABodyThatIsNotJSON(t *testing.T) {
	t.Parallel()
	for _, body := range []string{" ", "{", "[", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a" 1}`, `[1`, `[1,`, `[1 2]`, "]", "tea", `{1:2}`, `"a`, "01", "{} {}", "{}}"} {
		if r, err := parse(http.MethodPost, "/orders", body, "k"); err == nil {
			t.Errorf("%q has a fingerprint: %x", body, r.Fingerprint)
		} else {
			wantProblem(t, err, "malformed-json", "")
		}
	}
}
