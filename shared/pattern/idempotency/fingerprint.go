package idempotency

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode"
)

// fingerprint identifies what a request asks for: method, path and body. White
// space and the order of object keys do not count, because a client that
// encodes the same request twice may vary them. Everything else counts: an
// unknown field, 1 versus 1.0, the order of an array.
//
// Pattern: reject-non-identical
func fingerprint(method, path string, body []byte) ([sha256.Size]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // numbers keep their text; as floats, large ones would collide
	var canonical bytes.Buffer
	fmt.Fprintf(&canonical, "%s %s\n", method, path)
	if len(body) > 0 {
		if err := canonicalise(decoder, &canonical); err != nil {
			return [sha256.Size]byte{}, err
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return [sha256.Size]byte{}, errors.New("there is more after the JSON value")
		}
	}
	return sha256.Sum256(canonical.Bytes()), nil
}

// canonicalise copies one JSON value with its object keys sorted. A key that
// stands twice in an object is refused: which of the two counts is up to the
// decoder, and the fingerprint must not be of the other one. Twice is "items" and
// "Items" too: encoding/json takes both for the same field, and the last one counts,
// of which the sorted fingerprint says nothing.
func canonicalise(d *json.Decoder, out *bytes.Buffer) error {
	token, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	switch token {
	case json.Delim('{'):
		return canonicaliseObject(d, out)
	case json.Delim('['):
		out.WriteByte('[')
		for d.More() {
			if err := canonicalise(d, out); err != nil {
				return err
			}
			out.WriteByte(',')
		}
		out.WriteByte(']')
		_, err := d.Token()
		return err
	}
	scalar, err := json.Marshal(token)
	out.Write(scalar)
	return err
}

// fold makes equal what encoding/json takes for the same name.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		for { // to the smallest of the letters that differ only in case
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, key)
}

func canonicaliseObject(d *json.Decoder, out *bytes.Buffer) error {
	values, seen := map[string][]byte{}, map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // the decoder lets only strings stand here
		if seen[fold(key)] {
			return fmt.Errorf("the key %q stands twice in one object (small and capital letters are the same)", key)
		}
		seen[fold(key)] = true
		var value bytes.Buffer
		if err := canonicalise(d, &value); err != nil {
			return err
		}
		values[key] = value.Bytes()
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	out.WriteByte('{')
	for _, key := range keys {
		fmt.Fprintf(out, "%q:%s,", key, values[key])
	}
	out.WriteByte('}')
	return nil
}
