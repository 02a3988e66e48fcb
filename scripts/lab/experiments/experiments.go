// Package experiments shows each pattern twice under the same fault: in the services
// as they are, and in the services with one edit that takes the pattern away (see
// package edits). The same drive runs against both whole systems, and ends with numbers
// from the databases and from the outside world's own records.
//
// An experiment is as expected when every number is right with the pattern, and when
// without it exactly the number is wrong that the experiment names.
package experiments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
)

// Experiment is one pattern, taken away and put back.
type Experiment struct {
	ID    string // the pattern's
	Says  string // what it shows, in one sentence
	Fault string // what is done to both
	Code  string // where the services' code is

	// Drive plays the client and the fault, and measures. Breaks names what it measures
	// wrong without the pattern.
	Drive  func(ctx context.Context, w *World, r *Run)
	Breaks string

	// Ask is asked before the run; in the browser also when a crash is armed at one of
	// Points and meets what is placed.
	Ask    []Question
	Points []string
}

// All experiments, in the order in which docs/README.md has them studied.
var All = []Experiment{
	acidTransaction, atomicReadThenWrite,
	idempotencyKey, responseRecord, rejectNonIdentical, rejectDuplicate,
	transactionalOutbox, changeRecord, reliableRetries, outOfOrderMessages,
	idempotencyKeyExternal, singleUseTokenRecovery, ioInsideTransaction,
	idempotencyKeyLock, recoveryPoint, resumableOperation, completer,
	sagaExperiment, distributedTransaction, callbackExperiment,
	atMostOnceGuard, reconciliation,
	storeThenReference, garbageCollection,
}

// Question asks what a reader expects, before the run. The run's own measure is the
// answer: nothing is written down here that could be wrong.
type Question struct {
	Text    string
	Of      string // what is measured; its value is one of the choices
	Choices []string
	With    bool   // asked of the system as it is, not of the edited one
	Why     string // printed with the answer
}

// System says which of the two systems a question is about.
func (q Question) System() string {
	if q.With {
		return "with the pattern"
	}
	return "without the pattern"
}

// Answer is what was measured.
func (q Question) Answer(r Result) string {
	measures := r.Without.Measures
	if q.With {
		measures = r.With.Measures
	}
	for _, m := range measures {
		if m.Name == q.Of {
			return m.Got
		}
	}
	return "not measured"
}

// Measure is one number of a run, or a word. Without Want it is a fact that only a
// question asks for.
type Measure struct {
	Name string `json:"name"`
	Got  string `json:"got"`
	Want string `json:"want,omitempty"`
}

// Verdict is how a run ended.
type Verdict struct {
	Good     bool      `json:"good"`
	Says     string    `json:"says"` // in numbers: "charges: 2, not 1"
	Measures []Measure `json:"measures,omitempty"`
}

// judge makes a verdict of what was measured. Without the pattern exactly the measure
// must be wrong that the experiment names: otherwise it shows something else.
func (e Experiment) judge(measures []Measure, without bool) (Verdict, error) {
	var says, wrong []string
	for _, m := range measures {
		switch {
		case m.Want == "":
		case m.Got == m.Want:
			says = append(says, m.Name+": "+m.Got)
		default:
			says, wrong = append(says, fmt.Sprintf("%s: %s, not %s", m.Name, m.Got, m.Want)), append(wrong, m.Name)
		}
	}
	v := Verdict{Good: len(says) > 0 && len(wrong) == 0, Says: strings.Join(says, "; "), Measures: measures}
	if without && !slices.Equal(wrong, []string{e.Breaks}) {
		return v, fmt.Errorf("it should be %q that is wrong, and nothing else: %s", e.Breaks, v.Says)
	}
	return v, nil
}

// Line is one event of a run.
type Line struct {
	AtMS int64  `json:"at_ms"` // from the beginning
	Text string `json:"text"`
}

// Run collects what happens in one of the two versions.
type Run struct {
	begun time.Time
	mu    sync.Mutex
	Lines []Line

	measures []Measure
}

// Measure notes a number of the verdict, and what it must be.
func (r *Run) Measure(name string, got, want any) {
	r.measures = append(r.measures, Measure{name, fmt.Sprint(got), fmt.Sprint(want)})
}

// Fact notes what only a question asks for.
func (r *Run) Fact(name string, got any) {
	r.measures = append(r.measures, Measure{Name: name, Got: fmt.Sprint(got)})
}

// Log notes an event.
func (r *Run) Log(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Lines = append(r.Lines, Line{AtMS: time.Since(r.begun).Milliseconds(), Text: fmt.Sprintf(format, args...)})
}

// answerTo says whether a call was answered.
func answerTo(failed error) string {
	if failed != nil {
		return "no answer"
	}
	return "answered"
}

// World is what experiments play with: a whole running system and its outside world.
type World struct {
	*world.World
	Seed   uint64
	Dice   Dice // what the seed decides about the experiment that is running
	Number int  // of this run; makes names that are used once
}

// Result is an experiment that was run.
type Result struct {
	ID      string  `json:"id"`
	Seed    uint64  `json:"seed"`
	Says    string  `json:"says"`
	Fault   string  `json:"fault"`
	Error   string  `json:"error,omitempty"` // it could not be run to its end, and shows nothing
	Without Verdict `json:"without"`
	With    Verdict `json:"with"`
	Left    []Line  `json:"without_timeline"`
	Right   []Line  `json:"with_timeline"`
	Code    string  `json:"code"`
	Edit    string  `json:"edit"`
	Page    string  `json:"page"`
	TookMS  int64   `json:"took_ms"`
}

// Expected tells whether both verdicts are as they should be: bad without the
// pattern, good with it.
func (r Result) Expected() bool { return r.Error == "" && !r.Without.Good && r.With.Good }

// Half is an experiment that was run against one of the two systems.
type Half struct {
	Verdict Verdict
	Begun   time.Time
	Lines   []Line
	Took    time.Duration
	Err     error // of the experiment itself, not of what it shows
}

// Result puts both halves together.
func (e Experiment) Result(seed uint64, without, with Half) Result {
	r := Result{
		ID: e.ID, Seed: seed, Says: e.Says, Fault: e.Fault, Code: e.Code, Page: "docs/patterns/" + e.ID + ".md",
		Without: without.Verdict, With: with.Verdict, Left: without.Lines, Right: with.Lines,
		Edit: "go run ./scripts/lab without " + e.ID, TookMS: (without.Took + with.Took).Milliseconds(),
	}
	for version, err := range map[string]error{"without": without.Err, "with": with.Err} {
		if err != nil {
			r.Error += fmt.Sprintf("%s: %v. ", version, err)
		}
	}
	for _, q := range e.Ask {
		if seed == bookSeed && r.Error == "" && !slices.Contains(q.Choices, q.Answer(r)) {
			r.Error = fmt.Sprintf("%q is %s, which is none of the choices of its question", q.Of, q.Answer(r))
		}
	}
	return r
}

// oneExperiment bounds the time of one version.
const oneExperiment = 90 * time.Second

// Perform runs an experiment against one system: without the pattern, or as it is.
func (e Experiment) Perform(ctx context.Context, w *World, without bool) (h Half) {
	r := &Run{begun: time.Now()}
	w.Dice = throw(w.Seed, e.ID)
	h.Err = w.perform(ctx, func(ctx context.Context) { e.Drive(ctx, w, r) })
	if h.Err == nil {
		h.Verdict, h.Err = e.judge(r.measures, without)
	}
	h.Begun, h.Lines, h.Took = r.begun, r.Lines, time.Since(r.begun)
	return h
}

// perform runs a drive, and clears up after it.
func (w *World) perform(ctx context.Context, drive func(ctx context.Context)) (err error) {
	limited, cancel := context.WithTimeout(ctx, oneExperiment)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			broken, ok := p.(broken)
			if !ok {
				panic(p)
			}
			err = broken.error
		}
		// Faults that were not met must not meet the next experiment.
		err = errors.Join(err, w.Calm(ctx))
	}()
	w.Number++
	// What an earlier experiment has left to do would meet this one's faults.
	calm, enough := context.WithTimeout(limited, 30*time.Second)
	defer enough()
	must(audit.WaitQuiet(calm, w.Truth))
	drive(limited)
	return nil
}

// broken carries an error of the experiment's own machinery up to Perform, so that
// the experiments read as the stories that they are.
type broken struct{ error }

func must(err error) {
	if err != nil {
		panic(broken{err})
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

// Find returns the experiment of a pattern.
func Find(id string) (Experiment, error) {
	var ids []string
	for _, e := range All {
		if e.ID == id {
			return e, nil
		}
		ids = append(ids, e.ID)
	}
	return Experiment{}, fmt.Errorf("there is no experiment %q; there are: %s", id, strings.Join(ids, ", "))
}
