package idempotency

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// fingerprint identifies what a request asks for: method, path and body. White
// space, the order of object names and the way a string is escaped do not count, because
// a client that encodes the same request twice may vary them. Everything else counts: an
// unknown field, 1 versus 1.0, the order of an array. Numbers keep their text; as
// floats, large ones would collide.
//
// A name that stands twice in an object is refused: which of the two counts is up to the
// decoder, and the fingerprint must not be of the other one. A decoder that takes "Items"
// for "items", as encoding/json does, has that ambiguity too; see web.Decode for one
// that has not.
//
// Pattern: reject-non-identical
func fingerprint(method, path string, body []byte) ([sha256.Size]byte, error) {
	canonical := jsontext.Value(bytes.Clone(body))
	if len(body) > 0 {
		err := canonical.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
		if err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	return sha256.Sum256(fmt.Appendf(nil, "%s %s\n%s", method, path, canonical)), nil
}
