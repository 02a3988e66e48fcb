package main

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

func invalid(field, detail string) error {
	return web.NewProblem(http.StatusUnprocessableEntity, "invalid-field", "A field is not valid", detail).WithField(field)
}

const plainText = "has 1 to 255 characters of plain text"

// plain is text that PostgreSQL can store. A zero byte or broken UTF-8 would
// come back from there as an error of ours instead of the caller's.
func plain(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
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
