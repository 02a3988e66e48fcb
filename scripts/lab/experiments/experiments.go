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
	At   time.Duration `json:"at"`
	Text string        `json:"text"`
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
	r.Lines = append(r.Lines, Line{At: time.Since(r.begun), Text: fmt.Sprintf(format, args...)})
}

// World is what experiments play with: the whole running system, the outside
// world, and a database of their own for the naive versions.
type World struct {
	System *stack.Stack
	Shop   *shop.Shop
	Truth  *audit.Databases
	Naive  *pgxpool.Pool // search_path is a schema that is new for each run
	Seed   uint64
	Number int // of this run; makes names that are used once
}

// Result is an experiment that was run.
type Result struct {
	ID      string        `json:"id"`
	Says    string        `json:"says"`
	Fault   string        `json:"fault"`
	Without Verdict       `json:"without"`
	With    Verdict       `json:"with"`
	Left    []Line        `json:"without_timeline"`
	Right   []Line        `json:"with_timeline"`
	Code    string        `json:"code"`
	Page    string        `json:"page"`
	Took    time.Duration `json:"took"`
}

// Expected tells whether both verdicts are as they should be: bad without the
// pattern, good with it.
func (r Result) Expected() bool { return !r.Without.Good && r.With.Good }

// oneExperiment bounds the time of both runs.
const oneExperiment = 45 * time.Second

// Perform runs an experiment, both versions. Anything that goes wrong in the
// experiment itself (and not in what it shows) is an error.
func (e Experiment) Perform(ctx context.Context, w *World) (result Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneExperiment)
	defer cancel()
	begun := time.Now()
	result = Result{ID: e.ID, Says: e.Says, Fault: e.Fault, Code: e.Code, Page: "docs/patterns/" + e.ID + ".md"}
	defer func() {
		if p := recover(); p != nil {
			broken, ok := p.(broken)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("%s: %w", e.ID, broken.error)
		}
	}()
	for _, version := range []struct {
		run     func(context.Context, *World, *Run) Verdict
		verdict *Verdict
		lines   *[]Line
	}{{e.Without, &result.Without, &result.Left}, {e.With, &result.With, &result.Right}} {
		w.Number++
		if err := w.freshSchema(ctx); err != nil {
			return result, err
		}
		r := &Run{begun: time.Now()}
		*version.verdict = version.run(ctx, w, r)
		*version.lines = r.Lines
		// Faults that were not met must not meet the next experiment.
		w.misbehave(ctx, `[]`)
	}
	result.Took = time.Since(begun)
	return result, nil
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
