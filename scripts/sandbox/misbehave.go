package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// on puts a contract under the rules. A refusal is left to the handler: it must
// not contradict what the same key was told before. "Declined", said to the
// retry of a call that did hold the money, would be a lie that no caller could
// survive.
func (f *faults) on(contract string, no answer) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			p := f.next(contract)
			pause(p.before)
			switch p.fault {
			case "refuse":
				c.Set(refusalKey, &no)
			case "fail_before":
				pause(p.after)
				return failedBefore.send(c)
			case "lose_answer":
				wire := c.Response().Writer
				c.Response().Writer = unheard{http.Header{}}
				_ = next(c) // done or not, the client gets no answer
				pause(p.after)
				return cut(c, wire)
			}
			c.Response().Writer = lateWriter{c.Response().Writer, p.after}
			return next(c)
		}
	}
}

// onStatement puts a statement under the rules.
func (f *faults) onStatement(contract string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Set(misreportKey, f.next(contract).fault)
			return next(c)
		}
	}
}

const (
	refusalKey   = "refusal"
	misreportKey = "misreport"
)

// misreport is the lines of a statement as the rules have them.
func misreport(c echo.Context, lines any) any {
	fault, _ := c.Get(misreportKey).(string)
	if fault == "" {
		return lines
	}
	wrong := []map[string]any{}
	if err := json.Unmarshal(encode(lines), &wrong); err != nil {
		return lines
	}
	switch {
	case fault == "wrong_date":
		for _, line := range wrong {
			line["at"] = time.Now().AddDate(100, 0, 0).UTC()
		}
	case len(wrong) > 0: // bad_line
		bad := maps.Clone(wrong[0])
		bad["id"], bad["reference"] = newID(), "pay_\x00" // which no database of ours can hold
		wrong = append(wrong, bad)
	}
	return wrong
}

// refusal is the "no" that the rules demand for this call; nil: none.
func refusal(c echo.Context) *answer {
	no, _ := c.Get(refusalKey).(*answer)
	return no
}

// pause deliberately ignores a caller who hangs up: what makes a time-out
// dangerous is that the work goes on behind it.
func pause(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}

// lateWriter holds the answer back until the delay is over. The work is
// committed by the time that a handler writes.
type lateWriter struct {
	http.ResponseWriter
	delay time.Duration
}

func (w lateWriter) WriteHeader(status int) {
	pause(w.delay)
	w.ResponseWriter.WriteHeader(status)
}

func (w lateWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// unheard takes an answer that the client will not get.
type unheard struct{ header http.Header }

func (u unheard) Header() http.Header         { return u.header }
func (u unheard) Write(b []byte) (int, error) { return len(b), nil }
func (u unheard) WriteHeader(int)             {}

// cut closes the connection instead of answering. The few bytes sent first
// matter: Go's HTTP client silently repeats a keyed request whose reused
// connection closed without one byte of answer, and the caller under test would
// never meet the lost answer that it was meant to meet.
func cut(c echo.Context, wire http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(wire).Hijack()
	if err != nil {
		return fmt.Errorf("cut the connection: %w", err)
	}
	c.Response().Committed, c.Response().Status = true, 0 // nothing may be written after this
	_, _ = conn.Write([]byte("HTTP/1.1 "))
	return conn.Close()
}
