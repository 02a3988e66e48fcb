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

// Bind reads the body as one JSON value of type T and, when T has a method
// Validate() error, checks it. It also returns the bytes as they came, from which
// an idempotency fingerprint is taken.
//
// It is strict: a field that T does not know is refused rather than dropped. A
// client that misspells "amount" must hear of it before money moves.
func Bind[T any](c echo.Context) (T, []byte, error) {
	var in T
	contentType, _, err := mime.ParseMediaType(c.Request().Header.Get(echo.HeaderContentType))
	if err != nil || contentType != echo.MIMEApplicationJSON {
		return in, nil, NewProblem(http.StatusUnsupportedMediaType, "not-json", "JSON expected", "Send Content-Type: application/json.")
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return in, nil, readProblem(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return in, nil, decodeProblem(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return in, nil, NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", "There is more after the JSON value.")
	}
	if v, ok := any(in).(interface{ Validate() error }); ok {
		return in, body, v.Validate()
	}
	return in, body, nil
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
