package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/web"
)

// The contracts that can be made to misbehave, and how.
var (
	contracts = []string{
		"tokens", "payment_methods", "charges.create", "charges.capture", "charges.void", "charges.refund",
		"bank.transfers", "merchant", "webhooks", "report", "bank.statement",
	}
	kinds = []string{"refuse", "fail_before", "lose_answer", "delay", "duplicate", "reorder", "bad_line", "wrong_date"}
)

// statements are the contracts whose lines can be wrong.
var statements = []string{"report", "bank.statement"}

// longestDelay stays below the server's write time-out, after which a late
// answer would turn into a lost one.
const longestDelay = 25 * time.Second

// rule is one way in which one contract misbehaves.
type rule struct {
	Contract string `json:"contract"`
	Fault    string `json:"fault"`

	// Times is how often the rule strikes; 0 means for as long as it is there.
	Times int `json:"times"`

	// Rate is the share of calls that it strikes, 0 to 1; nil means all.
	Rate *float64 `json:"rate,omitempty"`

	// DelayMS is the length of a delay, and how long a reordered webhook is held.
	DelayMS int64 `json:"delay_ms,omitempty"`

	// At says on which side of the work a delay lies. "after" (the default):
	// the work is done and the answer is late. "before": the work is late too,
	// and happens even when the caller has gone by then.
	At string `json:"at,omitempty"`

	// Struck counts the calls that the rule has hit. Only in answers.
	Struck int `json:"struck"`

	dice *rand.Rand
}

func (r rule) validate(i int) error {
	bad := func(field, detail string) error {
		return invalid(fmt.Sprintf("rules[%d].%s", i, field), detail)
	}
	switch {
	case !slices.Contains(contracts, r.Contract):
		return bad("contract", fmt.Sprintf("is one of %v", contracts))
	case !slices.Contains(kinds, r.Fault):
		return bad("fault", fmt.Sprintf("is one of %v", kinds))
	case (r.Fault == "duplicate" || r.Fault == "reorder") && r.Contract != "webhooks":
		return bad("fault", "only webhooks are duplicated or reordered: the caller of a contract does that to its own calls")
	case (r.Fault == "bad_line" || r.Fault == "wrong_date") != slices.Contains(statements, r.Contract):
		return bad("fault", "bad_line and wrong_date are the faults of statements, which have no others")
	case r.Times < 0:
		return bad("times", "is 0 (always) or more")
	case r.Rate != nil && (*r.Rate < 0 || *r.Rate > 1):
		return bad("rate", "is between 0 and 1")
	case r.DelayMS < 0 || r.DelayMS > longestDelay.Milliseconds():
		return bad("delay_ms", fmt.Sprintf("is between 0 and %d", longestDelay.Milliseconds()))
	case r.At != "" && r.At != "before" && r.At != "after":
		return bad("at", "is before or after")
	}
	return nil
}

// faults holds the rules in force. They live in memory: a restarted sandbox
// behaves well.
type faults struct {
	seed  uint64
	mu    sync.Mutex
	rules []rule
}

func newFaults(seed uint64) *faults { return &faults{seed: seed, rules: []rule{}} }

// plan is what shall go wrong with one call.
type plan struct {
	fault         string // refuse, fail_before, lose_answer, duplicate, reorder; empty: none
	hold          time.Duration
	before, after time.Duration
}

// next decides about one call. Delays add up; of the other faults the first
// rule that strikes wins and the later ones keep their turns, so that a list
// of "once" rules is a script: fail, then lose the answer, then work.
func (f *faults) next(contract string) plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p plan
	for i := range f.rules {
		r := &f.rules[i]
		if r.Contract != contract || (r.Fault != "delay" && p.fault != "") || !r.strikes() {
			continue
		}
		delay := time.Duration(r.DelayMS) * time.Millisecond
		switch {
		case r.Fault != "delay":
			p.fault, p.hold = r.Fault, delay
		case r.At == "before":
			p.before += delay
		default:
			p.after += delay
		}
	}
	return p
}

// strikes decides about one call and counts it. A rule that is used up throws
// no dice.
func (r *rule) strikes() bool {
	if r.Times > 0 && r.Struck >= r.Times {
		return false
	}
	if r.Rate != nil && r.dice.Float64() >= *r.Rate {
		return false
	}
	r.Struck++
	return true
}

// routes is the control port.
func (f *faults) routes(e *echo.Echo) {
	e.GET("/faults", f.list)
	e.PUT("/faults", f.set)
	e.DELETE("/faults", f.clear)
}

type ruleList struct {
	Rules []rule `json:"rules"`
}

func (f *faults) list(c echo.Context) error {
	f.mu.Lock()
	rules := slices.Clone(f.rules)
	f.mu.Unlock()
	return c.JSON(http.StatusOK, ruleList{Rules: rules})
}

// set replaces all rules: what is in force is what the last caller sees in its
// own request, not a mixture with what an earlier experiment left behind.
func (f *faults) set(c echo.Context) error {
	req, err := web.Bind[ruleList](c)
	if err != nil {
		return err
	}
	for i, r := range req.Rules {
		if err := r.validate(i); err != nil {
			return err
		}
	}
	f.replace(append([]rule{}, req.Rules...)) // never nil, which would be shown as null
	return f.list(c)
}

func (f *faults) replace(rules []rule) {
	for i := range rules {
		// A sequence of its own for each rule: calls on another contract do not
		// change which of these calls are struck.
		rules[i].Struck, rules[i].dice = 0, rand.New(rand.NewPCG(f.seed, uint64(i)))
	}
	f.mu.Lock()
	f.rules = rules
	f.mu.Unlock()
}

func (f *faults) clear(c echo.Context) error {
	f.replace([]rule{})
	return c.NoContent(http.StatusNoContent)
}
