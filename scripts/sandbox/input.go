package main

import (
	"net/http"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

func invalid(field, detail string) error {
	return web.NewProblem(http.StatusUnprocessableEntity, "invalid-field", "A field is not valid", detail).WithField(field)
}

const plainText = "has 1 to 255 characters of plain text"

// plain is text that PostgreSQL can store in an index. (A zero byte and broken UTF-8 are
// refused before: see web.ReadJSON.)
func plain(s string) bool { return s != "" && len(s) <= 255 }

// plainFields refuses the first that is not plain text, of names and values in turn.
func plainFields(fields ...string) error {
	for i := 0; i < len(fields); i += 2 {
		if !plain(fields[i+1]) {
			return invalid(fields[i], plainText)
		}
	}
	return nil
}

func validAmount(m money.Money) error {
	if m.Minor <= 0 {
		return invalid("amount.minor", "is more than 0")
	}
	if err := m.Validate(); err != nil {
		return invalid("amount.currency", err.Error())
	}
	return nil
}
