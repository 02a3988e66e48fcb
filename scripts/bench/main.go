// Command bench measures the system beside its physical limit, on the same machine
// in the same run. What it says are ratios: absolute figures of a shared machine
// mean little, and change from one minute to the next.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/stack"
)

type flags struct {
	Quick   bool   `help:"Two minutes instead of fourteen: short rounds, no peers, no replicas, no old rows."`
	Only    string `help:"Only these parts, separated by commas: accept, replay, ledger, relay, endtoend, cost, process, replicas, groupcommit, traces, growth."`
	Rows    int    `default:"10000000" help:"How many old rows there are in each table when growth is measured."`
	Profile string `help:"Write CPU profiles of the services under load into this directory. Slower: for looking, not for quoting."`
	Report  string `help:"Write the table into this page (docs/performance.md), and the figures beside it as JSON."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("bench"), kong.Description("Measure the system beside its physical limit."))
	command.Main("bench", func(ctx context.Context) error { return run(ctx, f) })
}

// bench is a measurement in progress.
type bench struct {
	flags
	report report
	server string // version of the database
	broker string // and of the broker

	*world.World

	statements *pgx.Conn // where they are counted; nil: they are not

	round  time.Duration // how long one contender runs
	rounds int           // how often each of them does
}

func run(ctx context.Context, f flags) error {
	b := &bench{flags: f, round: 3 * time.Second, rounds: 3}
	if f.Quick {
		b.round, b.rounds, b.Rows = time.Second, 2, min(f.Rows, 100_000)
	}
	begun := time.Now()
	for _, part := range []struct {
		name   string
		run    func(context.Context) error
		system stack.Options
		slow   bool // not for the quick bench
	}{
		{name: "accept", run: b.accept}, {name: "replay", run: b.replay}, {name: "ledger", run: b.ledger}, {name: "relay", run: b.relay},
		{name: "endtoend", run: b.endToEnd, system: withPeerSandbox}, {name: "cost", run: b.cost, slow: true}, {name: "process", run: b.process},
		{name: "replicas", run: b.replicas, system: threeOfEach, slow: true}, {name: "groupcommit", run: b.groupCommit, slow: true},
		{name: "traces", run: b.traces, slow: true}, {name: "growth", run: b.growth, slow: true},
	} {
		if f.Quick && f.Only == "" && part.slow {
			continue
		}
		if f.Only != "" && !strings.Contains(","+f.Only+",", ","+part.name+",") {
			continue
		}
		fmt.Printf("\n%s, after %s\n", part.name, time.Since(begun).Round(time.Second))
		if err := b.measure(ctx, part.name, part.system, part.run); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Printf("\n%s\nmeasured in %s\n", b.report.table(), time.Since(begun).Round(time.Second))
	if f.Report != "" {
		return b.report.write(f.Report, b.machine(), f.Only == "")
	}
	return nil
}

// products are many, so that buyers do not queue for one row of stock.
const products = 500

// production takes the lab's shortened periods back: nothing looks twice a second
// for work that there is not.
var production = []string{
	"LAB_FAULTS=false", "LOG_LEVEL=warn", "CALLBACK_POLL=1s", "CALLBACK_LEASE=25s", "SAGA_STEP_TIMEOUT=15m", "SAGA_SWEEP=15s",
	"MAX_UNFINISHED_ORDERS=0", // accept is measured by itself
	"OUTBOX_TAKEOVER=1s", "OUTBOX_POLL=500ms", "COMPLETER_EVERY=15s", "TWOPHASE_SWEEP=15s", "EVENTS_POLL=1s", "WEBHOOK_POLL=1s",
	"RECEIPT_POLL=1s", "RECEIPT_GRACE=1h", "GARBAGE_EVERY=1m", "JOURNAL_LAG=1s", "REPORT_LAG=1s",
}

// measure gives each part a system of its own: fresh, and without what the part
// before has left in its caches and queues.
func (b *bench) measure(ctx context.Context, part string, system stack.Options, run func(context.Context) error) error {
	if err := b.start(ctx, system); err != nil {
		return err
	}
	defer b.Close()
	if b.Profile != "" {
		defer b.profile(ctx, part)()
	}
	return run(ctx)
}

// second starts another system, to measure one beside the other.
func (b *bench) second(ctx context.Context, system stack.Options) (*bench, error) {
	other := &bench{flags: b.flags, round: b.round, rounds: b.rounds}
	return other, other.start(ctx, system)
}

// start starts a system to measure.
func (b *bench) start(ctx context.Context, system stack.Options) error {
	seed := make([]string, products)
	for i := range seed {
		seed[i] = fmt.Sprintf("sku-%d=Thing %d=1250=GBP=100000000", i, i)
	}
	settings := append(slices.Clone(production), "LAB_SEED_PRODUCTS="+strings.Join(seed, ";"))
	if b.Profile != "" {
		settings = append(settings, "LAB_FAULTS=true")
	}
	env := map[string][]string{}
	maps.Copy(env, system.Env)
	for _, name := range stack.Processes {
		env[name] = slices.Concat(settings, system.Env[name])
	}
	system.IgnoreGiven, system.Env = true, env
	var err error
	if b.World, err = world.Start(ctx, system); err != nil {
		return err
	}
	err = b.Truth.Orders.QueryRow(ctx, `SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)`).Scan(&b.server)
	if err == nil {
		b.broker, err = brokerVersion(b.System.Servers.AMQPURL)
	}
	if err != nil {
		b.Close()
	}
	return err
}

// brokerVersion is what a broker says of itself to everybody who connects.
func brokerVersion(url string) (string, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return "", err
	}
	return fmt.Sprint("RabbitMQ ", conn.Properties["version"]), conn.Close()
}

// profile takes a CPU profile of each service, some seconds after the load has begun.
func (b *bench) profile(ctx context.Context, part string) (wait func()) {
	var taking sync.WaitGroup
	for _, name := range stack.Services {
		taking.Go(func() {
			time.Sleep(4 * time.Second) // it is not a measurement
			a, err := b.Shop.Get(ctx, b.System.URL[name]+"/debug/pprof/profile?seconds=8")
			if err == nil {
				err = os.WriteFile(filepath.Join(b.Profile, part+"-"+name+".pprof"), a.Body, 0o600)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench: profile of", name, err)
			}
		})
	}
	return taking.Wait
}
