package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// Bind reads the body as one JSON value of type T, see ReadJSON and Decode. It also
// returns the bytes as they came, from which an idempotency fingerprint is taken.
func Bind[T any](c echo.Context) (T, []byte, error) {
	body, err := ReadJSON(c)
	if err != nil {
		return *new(T), nil, err
	}
	in, err := Decode[T](body)
	return in, body, err
}

// ReadJSON reads the body of a request that says it is JSON.
func ReadJSON(c echo.Context) ([]byte, error) {
	contentType, _, err := mime.ParseMediaType(c.Request().Header.Get(echo.HeaderContentType))
	if err != nil || contentType != echo.MIMEApplicationJSON {
		return nil, NewProblem(http.StatusUnsupportedMediaType, "not-json", "JSON expected", "Send Content-Type: application/json.")
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return nil, readProblem(err)
	}
	return body, nil
}

// Decode decodes one JSON value of type T, which is not a pointer, and checks it when
// T or *T has a method Validate() error.
//
// It is strict: a field that T does not know is refused rather than dropped. A
// client that misspells "amount" must hear of it before money moves.
func Decode[T any](body []byte) (T, error) {
	var in T
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return in, decodeProblem(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return in, NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", "There is more after the JSON value.")
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
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return NewProblem(http.StatusRequestEntityTooLarge, "body-too-large", "Body too large",
			fmt.Sprintf("At most %d bytes are accepted.", tooLarge.Limit))
	}
	return NewProblem(http.StatusBadRequest, "unreadable-body", "Body could not be read", "The connection broke or was too slow.")
}

// decodeProblem names the field wherever the decoder tells it.
func decodeProblem(err error) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType):
		return NewProblem(http.StatusUnprocessableEntity, "invalid-field", "A field is not valid",
			fmt.Sprintf("A JSON %s does not fit here.", wrongType.Value)).WithField(wrongType.Field)
	case errors.As(err, &syntax):
		return NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", fmt.Sprintf("At byte %d: %v.", syntax.Offset, syntax))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", "The body ends too early.")
	}
	// encoding/json has no type for this error, only the text.
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return NewProblem(http.StatusUnprocessableEntity, "unknown-field", "Unknown field",
			"There is no field "+field+".").WithField(strings.Trim(field, `"`))
	}
	return NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", "The body could not be understood.")
}
