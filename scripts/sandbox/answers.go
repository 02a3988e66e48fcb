package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// answer is a complete answer before it is sent: it is recorded under the
// caller's key as it stands, so that a retry gets the same bytes.
type answer struct {
	status int
	body   []byte

	// lost: the work is committed, and the caller shall not hear of it.
	lost bool

	// again: nothing was done and nothing is decided, the same call may be
	// made again in a moment. Without this mark a 409 is a definite "no".
	again bool
}

func reply(status int, v any) answer {
	return answer{status: status, body: encode(v)}
}

// refuse is a problem (RFC 9457) with the processor's own code beside it: the
// code is what a program decides on, the texts are for people.
func refuse(status int, code, detail string) answer {
	return reply(status, map[string]any{
		"type":   "https://processor.example/errors/" + code,
		"title":  http.StatusText(status),
		"status": status,
		"detail": detail,
		"code":   code,
	})
}

// soon marks a refusal as one that only asks for patience.
func soon(a answer) answer {
	a.again = true
	return a
}

// failedBefore stands for a crash before the work: indefinite for the caller,
// although here nothing happened.
var failedBefore = refuse(http.StatusInternalServerError, "internal_error", "Something broke.")

func (a answer) send(c echo.Context) error {
	contentType := echo.MIMEApplicationJSON
	if a.status >= http.StatusBadRequest {
		contentType = "application/problem+json"
	}
	if a.lost {
		return cut(c, c.Response().Writer)
	}
	if a.again {
		c.Response().Header().Set(echo.HeaderRetryAfter, "1")
	}
	if a.body == nil {
		return c.NoContent(a.status)
	}
	return c.Blob(a.status, contentType, a.body)
}

// encode is for our own types, which always have a JSON form.
func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sandbox: encode %T: %v", v, err))
	}
	return body
}

// workTime bounds the work of one call on our side.
const workTime = 10 * time.Second

// unhurried is a context that outlives the caller's patience: a processor does
// not stop half-way because somebody hung up.
func unhurried(c echo.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.Request().Context()), workTime)
}
