package stack

import (
	"fmt"
	"io"
	"strings"
	"time"

	"example.com/failwell/shared/testenv"
)

// Names of the processes that a stack runs.
const (
	Sandbox  = "sandbox"
	Ledger   = "ledger"
	Payments = "payments"
	Orders   = "orders"
)

// Services are those that may die; the sandbox is the outside world.
var Services = []string{Orders, Payments, Ledger}

// Processes in the order in which they start; they stop the other way round.
var Processes = []string{Sandbox, Ledger, Payments, Orders}

// programOf is what a process runs: the second replica of orders is called orders-2.
func programOf(name string) string {
	program, _, _ := strings.Cut(name, "-")
	return program
}

// packageOf is where a program is built from.
func packageOf(name string) string {
	if name == Sandbox {
		return "./scripts/sandbox"
	}
	return "./services/" + name
}

// Options configures a stack.
type Options struct {
	// Out hears what is being started. nil: it is not said.
	Out io.Writer

	// IgnoreGiven starts a PostgreSQL and a RabbitMQ of its own even when
	// addresses are given: for a caller that is going to kill them.
	IgnoreGiven bool

	// Servers are PostgreSQL and RabbitMQ that run already, for systems side by side.
	// Tenant, a word of small letters, tells their databases and virtual hosts apart.
	// nil: servers of its own.
	Servers *testenv.Env
	Tenant  string

	// Network puts a network between the processes that can be broken.
	Network bool

	// LogicalDecoding starts a PostgreSQL whose log can be read as rows.
	LogicalDecoding bool

	// Lives hears when a process starts and when it ends. It must not block. nil: it is not told.
	Lives func(Life)

	// Overlay replaces source files, by their path in the repository, while the
	// services are built.
	Overlay map[string]string

	// Env overrides single variables of the lab's settings, by service. The second
	// replica of orders has the variables of orders, and those of orders-2.
	Env map[string][]string

	// Replicas is how many there are of a process, by name. Not named: one.
	Replicas map[string]int

	// BrokerLinks names processes that reach the broker over a link of their own:
	// Network.Cut(BrokerLink(name)) takes the broker from that process alone.
	BrokerLinks []string
}

// Life is the beginning or the end of a process, as its parent sees it.
type Life struct {
	Name string
	Pid  int
	At   time.Time
	End  string // "signal: killed", "exit status 1"; empty: it has started
}

// processes are the names of all that run, in the order in which they start.
func (o Options) processes() []string {
	var names []string
	for _, name := range Processes {
		names = append(names, name)
		for i := 2; i <= o.Replicas[name]; i++ {
			names = append(names, fmt.Sprintf("%s-%d", name, i))
		}
	}
	return names
}
