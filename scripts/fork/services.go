package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	composeFile  = "docker-compose.yml"
	labEnv       = "scripts/lab.env"
	stackFile    = "scripts/stack/stack.go"
	architecture = "docs/architecture.md"
	runbook      = "docs/runbook.md"
)

// services import nothing of each other: what they know of each other are messages
// and addresses. So one goes with its directory and its entries in the lists of
// processes, and whatever is sent to it waits for whoever takes its place.
var services = map[string]part{
	"orders": {
		files: []string{"services/orders/", "scripts/run/order.go", "scripts/ops/commands/callbacks.go",
			"docs/decisions/0001-", "docs/decisions/0005-"},
		with: whole,
		names: map[string][]string{
			"scripts/stack": {"Orders"}, "scripts/run": {"howToOrder"},
			"scripts/ops": {"Callbacks"}, "scripts/ops/commands": {"pool"},
		},
		blocks: map[string][]string{
			architecture: {"## An order"},
			runbook: {
				"| `failwell_saga_commands_resent_total`", "| `failwell_callback_tries_total", "| `failwell_saga_compensation_refused_total`",
				"| `void` or `reverse-sale` in",
			},
		},
	},
	"payments": {
		files: []string{"services/payments/", "scripts/ops/commands/prepared.go", "scripts/ops/commands/payouts.go",
			"docs/decisions/0004-", "docs/decisions/0007-", "docs/decisions/0008-", "docs/decisions/0009-", "docs/decisions/0010-"},
		with: whole,
		names: map[string][]string{
			"scripts/stack": {"Payments", "ReceiptsURL"},
			"scripts/ops":   {"Prepared", "Payouts"}, "scripts/ops/commands": {"connect", "patience"},
		},
		blocks: map[string][]string{
			composeFile:  {"  receipts:"},
			architecture: {"## A refund", "## A payout"},
			runbook: {
				"| `failwell_completer_total", "| `failwell_events_overdue`", "| `failwell_reconciliation_differences", "| *payout: nobody knows",
				"## A payout of which nobody knows",
			},
		},
		words: map[string][]word{
			"shared/pattern/distributedtx/doc.go": {{"services/payments/payout.go; ", ""}},
			runbook:                               {{" Then it ends it by itself. If the process cannot come back, but its database is there (what you decide is written into its log): `go run ./scripts/ops prepared list`, then `go run ./scripts/ops prepared resolve <name> abort`. `commit` only when you know that both halves were prepared. What *payments* has decided before stands, whatever you type", ""}},
		},
	},
	"ledger": {
		files: []string{"services/ledger/"},
		with:  whole,
		names: map[string][]string{"scripts/stack": {"Ledger"}},
		blocks: map[string][]string{
			architecture: {"## The books"},
			runbook:      {"| `failwell_prepared_transaction_age_seconds`"},
		},
		words: map[string][]word{"shared/pattern/distributedtx/doc.go": {{"; services/ledger/twophase.go", ""}}},
	},
}

// leftServices are the services that are left behind.
func leftServices(without []string) (left []string) {
	for _, name := range without {
		if isOf(services, name) {
			left = append(left, name)
		}
	}
	return left
}

// runsTheSandbox: the outside world is there for those that meet it. The ledger does not.
func runsTheSandbox(without []string) bool {
	return !slices.Contains(without, "orders") || !slices.Contains(without, "payments")
}

// cutProcesses takes the processes that are left behind out of the lists of processes.
func cutProcesses(kept map[string]string, without []string) error {
	left := leftServices(without)
	if !runsTheSandbox(without) {
		left = append(left, "sandbox")
		for file, text := range kept {
			if path.Dir(file) != "scripts/stack" || path.Ext(file) != ".go" {
				continue
			}
			text, err := cutGo(file, text, []string{"Sandbox"}, map[string]bool{})
			if err != nil {
				return err
			}
			kept[file] = text
		}
		kept[architecture] = cutBlock(architecture, kept[architecture], "The card processor, the bank and the merchant's endpoint are played")
		if text, ok := kept["scripts/docker/Dockerfile"]; ok {
			kept["scripts/docker/Dockerfile"] = strings.ReplaceAll(text, " ./scripts/sandbox", "")
		}
	}
	for _, name := range left {
		port := strings.ToUpper(name) + "_PORT"
		for file, lines := range map[string][]string{
			composeFile:                 {` +` + name + `: \{condition: .*`, `.*://` + name + `:.*`},
			"scripts/docker/compose.sh": {` +echo "` + name + ` .*`},
			"scripts/init.sql":          {`[A-Z].*\b` + name + `\b.*`},
		} {
			for _, line := range lines {
				if text, ok := kept[file]; ok {
					kept[file] = regexp.MustCompile(`(?m)^`+line+`\n`).ReplaceAllString(text, "")
				}
			}
		}
		if text, ok := kept[composeFile]; ok {
			text = cutBlock(composeFile, text, "  "+name+":\n")
			kept[composeFile] = strings.Replace(strings.Replace(text, port+", ", "", 1), "\n\n\n", "\n\n", 1)
		}
	}
	if len(left) > 0 {
		kept[architecture] = openEnds(kept[architecture], left)
		for _, queue := range []string{"payments.commands", "ledger.commands", "orders.replies"} {
			if !slices.Contains(left, strings.Split(queue, ".")[0]) {
				kept[runbook] = strings.ReplaceAll(kept[runbook], "payments.commands", queue)
				break
			}
		}
	}
	return nil
}

// openEnds keeps of the picture of the whole, and of its lists, what has an end at a
// service that stays.
func openEnds(page string, left []string) string {
	var lines []string
	for line := range strings.Lines(page) {
		if slices.ContainsFunc(left, func(l string) bool { return strings.HasPrefix(line, "| "+l+" |") }) {
			continue
		}
		if ends := endsOf(line); len(ends) == 0 || slices.ContainsFunc(ends, func(e string) bool { return isOf(services, e) && !slices.Contains(left, e) }) {
			lines = append(lines, line)
		}
	}
	page = strings.Join(lines, "")
	for letter, name := range nodes {
		if slices.Contains(left, name) {
			page = regexp.MustCompile(`(?m)^( +`+letter+`\["`+name+`).*("\])$`).ReplaceAllString(page, "${1}<br/>yours to write${2}")
		}
		edge := regexp.MustCompile(`(?m)^ +(?:` + letter + ` <?--.*|.*-->? ` + letter + `)$`)
		if !edge.MatchString(page) {
			page = regexp.MustCompile(`(?m)^ +`+letter+`\[".*\n`).ReplaceAllString(page, "")
		}
	}
	return page
}

// nodes of the picture.
var nodes = map[string]string{"M": "merchant", "O": "orders", "P": "payments", "L": "ledger", "W": "world"}

var (
	edge        = regexp.MustCompile(`^ +([MOPLW]) <?-- .* -->? ([MOPLW])\n$`)
	wayBetween  = regexp.MustCompile(`^\| \d \| (.*?) \|`)
	sentMessage = regexp.MustCompile("^\\| `[a-z]+\\.[a-z-]+` \\| (.*?) \\| ([a-z]+) \\|")
	serviceName = regexp.MustCompile(`\b(?:orders|payments|ledger)\b`)
)

// endsOf are the two ends of a way that a line of the page shows.
func endsOf(line string) []string {
	if m := edge.FindStringSubmatch(line); m != nil {
		return []string{nodes[m[1]], nodes[m[2]]}
	}
	if m := wayBetween.FindStringSubmatch(line); m != nil {
		return serviceName.FindAllString(m[1], -1)
	}
	if m := sentMessage.FindStringSubmatch(line); m != nil {
		return append(serviceName.FindAllString(m[1], -1), m[2])
	}
	return nil
}

var (
	messageName = regexp.MustCompile(`"((?:orders|payments|ledger)\.[a-z-]+)"`)
	bindings    = regexp.MustCompile(`Bindings: \[\]string\{([^}]*)\}`)
)

// open says which messages and calls of the services that stay nobody takes up any
// more, one line for each.
func open(kept map[string]string, without []string) (says []string) {
	left := leftServices(without)
	for _, service := range []string{"orders", "payments", "ledger"} {
		if slices.Contains(left, service) {
			continue
		}
		sends, awaits := []string{}, []string{}
		for file, text := range kept {
			if path.Dir(file) != "services/"+service || !isCode(file) {
				continue
			}
			bound := bindings.FindStringSubmatch(text)
			for _, m := range messageName.FindAllStringSubmatch(text, -1) {
				if receiver, _, _ := strings.Cut(m[1], "."); slices.Contains(left, receiver) && !slices.Contains(sends, m[1]) {
					sends = append(sends, m[1])
				}
			}
			if bound == nil {
				continue
			}
			for _, m := range messageName.FindAllStringSubmatch(bound[1], -1) {
				if !sentBy(kept, service, m[1]) {
					awaits = append(awaits, m[1])
				}
			}
		}
		slices.Sort(sends)
		slices.Sort(awaits)
		if len(sends) > 0 {
			says = append(says, fmt.Sprintf("%s sends %s: nobody receives them.", service, strings.Join(sends, ", ")))
		}
		if len(awaits) > 0 {
			says = append(says, fmt.Sprintf("%s waits for %s: nobody sends them.", service, strings.Join(awaits, ", ")))
		}
	}
	for _, service := range left {
		if name := strings.ToUpper(service) + "_URL="; strings.Contains(kept[labEnv], "\n"+name) {
			says = append(says, fmt.Sprintf("%s in %s: nobody answers there.", strings.TrimSuffix(name, "="), labEnv))
		}
	}
	return says
}

// sentBy tells whether a service other than the receiver sends a message.
func sentBy(kept map[string]string, receiver, kind string) bool {
	for file, text := range kept {
		if strings.HasPrefix(file, "services/") && path.Dir(file) != "services/"+receiver && isCode(file) && strings.Contains(text, `"`+kind+`"`) {
			return true
		}
	}
	return false
}
