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

func validAmount(m money.Money) error {
	if m.Minor <= 0 {
		return invalid("amount.minor", "is more than 0")
	}
	if err := m.Validate(); err != nil {
		return invalid("amount.currency", err.Error())
	}
	return nil
}
