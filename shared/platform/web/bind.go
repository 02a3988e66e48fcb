package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json" // encoding/json/v2, for a Go that does not have it yet
	"github.com/go-json-experiment/json/jsontext"
	"github.com/labstack/echo/v4"
)

// Bind reads the body as one JSON value of type T, see ReadJSON and Decode.
func Bind[T any](c echo.Context) (T, error) {
	body, err := ReadJSON(c)
	if err != nil {
		return *new(T), err
	}
	return Decode[T](body)
}

// zeroByte finds \u0000 in a JSON text, but not \\u0000, which is a backslash and letters.
var zeroByte = regexp.MustCompile(`(^|[^\\])(\\\\)*\\u0000`)

// ReadJSON reads the body of a request that says it is JSON. What it returns is UTF-8,
// and a text that PostgreSQL can hold. A decoder that put U+FFFD in the place of what is
// not UTF-8 would make two customers, José and Josè in Latin-1, into one.
func ReadJSON(c echo.Context) ([]byte, error) {
	header := c.Request().Header
	contentType, params, err := mime.ParseMediaType(header.Get(echo.HeaderContentType))
	if err != nil || contentType != echo.MIMEApplicationJSON {
		return nil, NewProblem(http.StatusUnsupportedMediaType, "not-json", "JSON expected", "Send Content-Type: application/json.")
	}
	if charset, given := params["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return nil, NewProblem(http.StatusUnsupportedMediaType, "unsupported-charset", "Charset not supported",
			"Send the body in UTF-8.").WithField(echo.HeaderContentType)
	}
	if encoding := header.Get(echo.HeaderContentEncoding); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, NewProblem(http.StatusUnsupportedMediaType, "unsupported-content-encoding", "Content-Encoding not supported",
			"Send the body as it is, not compressed.").WithField(echo.HeaderContentEncoding)
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return nil, readProblem(err)
	}
	if !utf8.Valid(body) {
		return nil, NewProblem(http.StatusBadRequest, "not-utf-8", "Body is not UTF-8", "Send the body in UTF-8.")
	}
	if bytes.Contains(body, []byte(`\u0000`)) && zeroByte.Match(body) { // the expression alone takes as long as all the rest of the decoding
		return nil, NewProblem(http.StatusBadRequest, "zero-byte", "Zero byte in a text", `\u0000 is not accepted in a text.`)
	}
	return body, nil
}

// Decode decodes one JSON value of type T, which is not a pointer, and checks it when
// T or *T has a method Validate() error.
//
// It is strict: a name that T does not know, or that differs from T's in small and
// capital letters, or that stands twice in an object, is refused. A client that
// misspells "amount" must hear of it before money moves, and of two prices we would take
// one and a gateway that looks at the request the other.
func Decode[T any](body []byte) (T, error) {
	var in T
	if err := json.Unmarshal(body, &in, json.RejectUnknownMembers(true)); err != nil {
		return in, decodeProblem(err)
	}
	// Of &in, whose methods are those with a value receiver and those with a pointer
	// receiver. Of in, a type that validates by pointer would pass unchecked.
	if v, ok := any(&in).(interface{ Validate() error }); ok {
		err := v.Validate() // before in is copied: it may have parsed a field
		return in, err
	}
	return in, nil
}

func readProblem(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return NewProblem(http.StatusRequestEntityTooLarge, "body-too-large", "Body too large",
			fmt.Sprintf("At most %d bytes are accepted.", tooLarge.Limit))
	}
	return NewProblem(http.StatusBadRequest, "unreadable-body", "Body could not be read", "The connection broke or was too slow.")
}

// decodeProblem names the field wherever the decoder tells it.
func decodeProblem(err error) error {
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		field := fieldOf(semantic.JSONPointer)
		if errors.Is(err, json.ErrUnknownName) {
			return NewProblem(http.StatusUnprocessableEntity, "unknown-field", "Unknown field",
				"There is no such field. Small and capital letters differ.").WithField(field)
		}
		return NewProblem(http.StatusUnprocessableEntity, "invalid-field", "A field is not valid",
			"Its value is of another JSON type, or out of range.").WithField(field)
	}
	p := NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", "The body ends too early.")
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
		p.Detail = fmt.Sprintf("At byte %d: %v.", syntax.ByteOffset, syntax.Err)
		p.Field = fieldOf(syntax.JSONPointer)
	}
	return p
}

// fieldOf writes a JSON pointer the way our own checks name a field: items[0].quantity.
func fieldOf(pointer jsontext.Pointer) string {
	var field strings.Builder
	for name := range pointer.Tokens() {
		if _, err := strconv.ParseUint(name, 10, 0); err == nil {
			field.WriteString("[" + name + "]")
			continue
		}
		if field.Len() > 0 {
			field.WriteByte('.')
		}
		field.WriteString(name)
	}
	return field.String()
}
