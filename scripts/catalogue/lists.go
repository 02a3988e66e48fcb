package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// services are the directories under services: those that an order meets, in that
// order, and then any other.
func (s source) services() []string {
	all := []string{"orders", "payments", "ledger"}
	dirs, _ := filepath.Glob(filepath.Join(s.root, "services", "*", "main.go")) // fails for a bad pattern only
	for _, dir := range dirs {
		if name := filepath.Base(filepath.Dir(dir)); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

var (
	deleteOld   = regexp.MustCompile(`DeleteOld\(([^)]*)\)`)
	consumer    = regexp.MustCompile(`Queue: "([^"]+)",\s+Bindings: \[\]string\{([^}]+)\}`)
	quoted      = regexp.MustCompile(`"([^"]+)"`)
	createTable = regexp.MustCompile(`(?m)((?:^--.*\n)*)^CREATE TABLE (\w+) \(`)
)

// consumed is a message that a service takes from a queue of its own.
type consumed struct{ receiver, queue, kind string }

// consumed lists the messages that the services take.
func (s source) consumed() (all []consumed, err error) {
	for _, receiver := range s.services() {
		text, err := os.ReadFile(filepath.Join(s.root, "services", receiver, "main.go"))
		if err != nil {
			return nil, err
		}
		for _, m := range consumer.FindAllStringSubmatch(string(text), -1) {
			for _, kind := range quoted.FindAllStringSubmatch(m[2], -1) {
				all = append(all, consumed{receiver, m[1], kind[1]})
			}
		}
	}
	return all, nil
}

// messages is the table of all types of messages: who sends them, whose queue they
// go to.
func (s source) messages(up string) ([]string, error) {
	all, err := s.consumed()
	if err != nil {
		return nil, err
	}
	table := []string{"| message | from | to | through |", "|---|---|---|---|"}
	for _, c := range all {
		senders, err := s.senders(c.kind, all)
		if err != nil {
			return nil, err
		}
		if len(senders) == 0 {
			return nil, fmt.Errorf("%s consumes %s, which no service sends", c.receiver, c.kind)
		}
		var links []string
		for _, p := range senders {
			links = append(links, fmt.Sprintf("[%s](%s%s#L%d)", serviceOf(p.File), up, p.File, p.Line))
		}
		table = append(table, fmt.Sprintf("| `%s` | %s | %s | `%s`, `%s.retry.*`, `%s.dead` |", c.kind, strings.Join(links, ", "), c.receiver, c.queue, c.queue, c.queue))
	}
	return table, nil
}

// serviceOf is the service that a file of services/ belongs to.
func serviceOf(file string) string { return strings.Split(file, "/")[1] }

// neverForgotten lists the senders whose messages a service takes and whose old rows
// in its inbox it does not delete: those would stay for good.
func (s source) neverForgotten() (gaps []string, err error) {
	all, err := s.consumed()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		file := "services/" + c.receiver + "/garbage.go"
		text, _ := os.ReadFile(filepath.Join(s.root, file)) // a service may have no such rule
		forgets := deleteOld.FindStringSubmatch(string(text))
		senders, err := s.senders(c.kind, all)
		if err != nil {
			return nil, err
		}
		for _, p := range senders {
			if sender := `"/` + serviceOf(p.File) + `"`; forgets != nil && !strings.Contains(forgets[1], sender) {
				gaps = append(gaps, fmt.Sprintf("%s: DeleteOld lacks %s, who sends %s", file, sender, c.kind))
			}
		}
	}
	return gaps, nil
}

// senders are the places, a file each, where a service names a message that it does
// not take: it sends it. A saga's plan names it as the participant and the step.
func (s source) senders(kind string, all []consumed) (senders []place, err error) {
	participant, step, _ := strings.Cut(kind, ".")
	named := regexp.MustCompile(fmt.Sprintf(`"%s"|Participant: "%s".*"%s"`, regexp.QuoteMeta(kind), regexp.QuoteMeta(participant), regexp.QuoteMeta(step)))
	for _, service := range s.services() {
		if slices.ContainsFunc(all, func(c consumed) bool { return c.receiver == service && c.kind == kind }) {
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
			if at := named.FindIndex(text); at != nil && !strings.HasSuffix(file, "_test.go") {
				senders = append(senders, place{File: "services/" + service + "/" + filepath.Base(file), Line: bytes.Count(text[:at[0]], []byte("\n")) + 1})
			}
		}
	}
	return senders, nil
}

// tables is the list of all tables, with what their migrations say of them.
func (s source) tables(up string) ([]string, error) {
	table := []string{"| service | table | |", "|---|---|---|"}
	for _, service := range s.services() {
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
