// Package experiments shows each pattern twice under the same fault: taken away,
// in a short naive version of the same piece of work, and in place, in the
// services' real code. Both end with a verdict in numbers.
//
// The naive versions are written as many real systems write them. They live here
// and never in the services. A crash in one of them is a return in the middle:
// what was committed stays, what was in memory is gone.
package experiments

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// Experiment is one pattern, taken away and put back.
type Experiment struct {
	ID    string // the pattern's
	Says  string // what it shows, in one sentence
	Fault string // what is done to both
	Code  string // where the services' code is

	Without func(ctx context.Context, w *World, r *Run) Verdict
	With    func(ctx context.Context, w *World, r *Run) Verdict
}

// All experiments, in the order of the catalogue.
var All = []Experiment{
	idempotencyKey, rejectNonIdentical, callbackExperiment,
	acidTransaction, atomicReadThenWrite, idempotencyKeyExternal, changeRecord, responseRecord,
	transactionalOutbox, sagaExperiment, distributedTransaction, resumableOperation, recoveryPoint,
	atMostOnceGuard, idempotencyKeyLock, storeThenReference,
	completer, garbageCollection, reconciliation,
	ioInsideTransaction, reliableRetries, singleUseTokenRecovery, outOfOrderMessages, rejectDuplicate,
}

// Verdict is how a run ended.
type Verdict struct {
	Good bool   `json:"good"`
	Says string `json:"says"` // in numbers: "2 charges"
}

func verdict(good bool, format string, args ...any) Verdict {
	return Verdict{Good: good, Says: fmt.Sprintf(format, args...)}
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

// with is what came out, with its error if there was one.
func with(what string, err error) string {
	if err != nil {
		return what + ", " + err.Error()
	}
	return what
}

// World is what experiments play with: the whole running system, the outside
// world, and a database of their own for the naive versions.
type World struct {
	System *stack.Stack
	Shop   *shop.Shop
	Truth  *audit.Databases
	Naive  *pgxpool.Pool // search_path is a schema that is new for each run
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
	Page    string  `json:"page"`
	TookMS  int64   `json:"took_ms"`
}

// Expected tells whether both verdicts are as they should be: bad without the
// pattern, good with it.
func (r Result) Expected() bool { return r.Error == "" && !r.Without.Good && r.With.Good }

// oneExperiment bounds the time of one version.
const oneExperiment = 45 * time.Second

// Perform runs an experiment, both versions. Anything that goes wrong in the
// experiment itself (and not in what it shows) is the result's Error.
func (e Experiment) Perform(ctx context.Context, w *World) Result {
	begun := time.Now()
	result := Result{ID: e.ID, Seed: w.Seed, Says: e.Says, Fault: e.Fault, Code: e.Code, Page: "docs/patterns/" + e.ID + ".md"}
	for _, v := range []struct {
		name    string
		run     func(context.Context, *World, *Run) Verdict
		verdict *Verdict
		lines   *[]Line
	}{{"without", e.Without, &result.Without, &result.Left}, {"with", e.With, &result.With, &result.Right}} {
		w.begin(e.ID, v.name)
		r := &Run{begun: time.Now()}
		err := w.perform(ctx, func(ctx context.Context) { *v.verdict = v.run(ctx, w, r) })
		*v.lines = r.Lines
		if err != nil {
			result.Error = fmt.Sprintf("%s: %v", v.name, err)
			break
		}
	}
	result.TookMS = time.Since(begun).Milliseconds()
	return result
}

// perform runs one version on a clean table, and clears up after it.
func (w *World) perform(ctx context.Context, version func(ctx context.Context)) (err error) {
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
		err = errors.Join(err, w.behave(ctx))
	}()
	w.Number++
	must(w.freshSchema(limited))
	version(limited)
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

// freshSchema gives the naive version empty tables of its own.
func (w *World) freshSchema(ctx context.Context) error {
	_, err := w.Naive.Exec(ctx, `DROP SCHEMA IF EXISTS naive CASCADE; CREATE SCHEMA naive`)
	return err
}

// OpenNaive opens the experiments' own database.
func OpenNaive(ctx context.Context, serverURL string) (*pgxpool.Pool, error) {
	server, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return nil, err
	}
	_, err = server.Exec(ctx, `CREATE DATABASE naive`)
	_ = server.Close(ctx)
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(serverURL)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.Database = "naive"
	cfg.ConnConfig.RuntimeParams["search_path"] = "naive"
	// Tables come and go under the same names, so plans must not be kept.
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgxpool.NewWithConfig(ctx, cfg)
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
