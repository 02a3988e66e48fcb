package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// services in the order in which an order meets them.
var services = []string{"orders", "payments", "ledger"}

var (
	consumer    = regexp.MustCompile(`Queue: "([^"]+)",\s+Bindings: \[\]string\{([^}]+)\}`)
	quoted      = regexp.MustCompile(`"([^"]+)"`)
	createTable = regexp.MustCompile(`(?m)((?:^--.*\n)*)^CREATE TABLE (\w+) \(`)
)

// consumed is a message that a service takes from a queue of its own.
type consumed struct{ receiver, queue, kind string }

// messages is the table of all types of messages: who sends them, whose queue they
// go to. A service sends what it names and does not consume.
func (s source) messages(up string) ([]string, error) {
	var all []consumed
	receivers := map[string][]string{} // by kind
	for _, receiver := range services {
		text, err := os.ReadFile(filepath.Join(s.root, "services", receiver, "main.go"))
		if err != nil {
			return nil, err
		}
		for _, m := range consumer.FindAllStringSubmatch(string(text), -1) {
			for _, kind := range quoted.FindAllStringSubmatch(m[2], -1) {
				all = append(all, consumed{receiver, m[1], kind[1]})
				receivers[kind[1]] = append(receivers[kind[1]], receiver)
			}
		}
	}
	table := []string{"| message | from | to | through |", "|---|---|---|---|"}
	for _, c := range all {
		senders, err := s.senders(up, c.kind, receivers[c.kind])
		if err != nil {
			return nil, err
		}
		if len(senders) == 0 {
			return nil, fmt.Errorf("%s consumes %s, which nobody sends", c.receiver, c.kind)
		}
		table = append(table, fmt.Sprintf("| `%s` | %s | %s | `%s`, `%s.retry.*`, `%s.dead` |", c.kind, strings.Join(senders, ", "), c.receiver, c.queue, c.queue, c.queue))
	}
	return table, nil
}

// senders are the services, other than the receivers, that name a message, with a
// link to each file that does.
func (s source) senders(up, kind string, receivers []string) (senders []string, err error) {
	for _, service := range services {
		if slices.Contains(receivers, service) {
			continue
		}
		files, err := filepath.Glob(filepath.Join(s.root, "services", service, "*.go"))
		if err != nil {
			return nil, err
		}
		slices.Sort(files)
		for _, file := range files {
			text, err := os.ReadFile(file) //nolint:gosec // a source file of the repository
			if err != nil {
				return nil, err
			}
			if before, _, found := strings.Cut(string(text), `"`+kind+`"`); found && !strings.HasSuffix(file, "_test.go") {
				senders = append(senders, fmt.Sprintf("[%s](%sservices/%s/%s#L%d)", service, up, service, filepath.Base(file), strings.Count(before, "\n")+1))
			}
		}
	}
	return senders, nil
}

// tables is the list of all tables, with what their migrations say of them.
func (s source) tables(up string) ([]string, error) {
	table := []string{"| service | table | |", "|---|---|---|"}
	for _, service := range services {
		files, err := filepath.Glob(filepath.Join(s.root, "services", service, "migrations", "*.sql"))
		if err != nil {
			return nil, err
		}
		slices.Sort(files)
		for _, file := range files {
			text, err := os.ReadFile(file) //nolint:gosec // a migration of the repository
			if err != nil {
				return nil, err
			}
			for _, m := range createTable.FindAllStringSubmatchIndex(string(text), -1) {
				comment, name := string(text)[m[2]:m[3]], string(text)[m[4]:m[5]]
				comment, _, _ = strings.Cut(comment, "\n--\n") // its first paragraph
				says := strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll("\n"+comment, "\n--", " "), "|", "\\|")), " ")
				if says == "" {
					return nil, fmt.Errorf("services/%s/migrations/%s says nothing of table %s", service, filepath.Base(file), name)
				}
				table = append(table, fmt.Sprintf("| %s | [%s](%sservices/%s/migrations/%s#L%d) | %s |",
					service, name, up, service, filepath.Base(file), strings.Count(string(text)[:m[4]], "\n")+1, says))
			}
		}
	}
	return table, nil
}
