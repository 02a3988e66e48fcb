package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Diagrams are read here as far as our pages use the language: every statement must
// be one of those below. A browser would draw nothing for a diagram with one wrong
// line, and say so to the reader only.

// diagrams lists what is wrong with the Mermaid blocks of a page.
func diagrams(path, text string) (gaps []string) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] != "```mermaid" {
			continue
		}
		first := i + 1
		for i = first; i < len(lines) && lines[i] != "```"; i++ {
		}
		for _, w := range diagram(lines[first:i]) {
			gaps = append(gaps, fmt.Sprintf("%s:%d: diagram: %s", path, first+1+w.line, w.says))
		}
	}
	return gaps
}

type wrong struct {
	line int // from 0, within the diagram
	says string
}

func diagram(lines []string) []wrong {
	if len(lines) == 0 || len(lines) == 1 && lines[0] == "" {
		return []wrong{{0, "it is empty"}}
	}
	var statement func(string) error
	var open func() int
	head := strings.TrimSpace(lines[0])
	switch {
	case head == "sequenceDiagram":
		s := &sequence{participants: map[string]bool{}}
		statement, open = s.statement, func() int { return len(s.blocks) }
	case flowHead.MatchString(head):
		f := &flow{}
		statement, open = f.statement, func() int { return f.depth }
	default:
		return []wrong{{0, fmt.Sprintf("%q is neither sequenceDiagram nor flowchart with a direction", head)}}
	}
	var all []wrong
	for n, line := range lines[1:] {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "%%") {
			continue
		}
		if err := statement(line); err != nil {
			all = append(all, wrong{n + 1, fmt.Sprintf("%v: %s", err, line)})
		}
	}
	if open() > 0 {
		all = append(all, wrong{len(lines) - 1, fmt.Sprintf("%d blocks without end", open())})
	}
	return all
}

// sequence reads a sequenceDiagram.
type sequence struct {
	participants map[string]bool
	blocks       []string // that are open: alt, loop and so on
}

var (
	participant = regexp.MustCompile(`^(?:participant|actor) (\w+)(?: as \S.*)?$`)
	note        = regexp.MustCompile(`^Note (?:over|left of|right of) (\w+)(?:, ?(\w+))?: ?\S`)
	arrow       = regexp.MustCompile(`^(\w+) ?(?:<<-->>|<<->>|-->>|->>|--x|-x|--\)|-\)|-->|->)[+-]? ?(\w+): ?\S`)
	activation  = regexp.MustCompile(`^(?:activate|deactivate) (\w+)$`)
	block       = regexp.MustCompile(`^(loop|alt|opt|par|critical|break|rect|box)( .*)?$`)
	branch      = regexp.MustCompile(`^(else|and|option)( .*)?$`)
)

// within says which block a branch belongs to.
var within = map[string]string{"else": "alt", "and": "par", "option": "critical"}

var (
	errUnknown   = errors.New("unknown statement")
	errSemicolon = errors.New("a semicolon ends a statement; use a comma")
)

func (s *sequence) statement(line string) error {
	if strings.Contains(line, ";") {
		return errSemicolon
	}
	var names []string
	switch {
	case participant.MatchString(line):
		s.participants[participant.FindStringSubmatch(line)[1]] = true
	case note.MatchString(line):
		names = note.FindStringSubmatch(line)[1:]
	case arrow.MatchString(line):
		names = arrow.FindStringSubmatch(line)[1:]
	case activation.MatchString(line):
		names = activation.FindStringSubmatch(line)[1:]
	case block.MatchString(line):
		s.blocks = append(s.blocks, block.FindStringSubmatch(line)[1])
	case branch.MatchString(line):
		kind := branch.FindStringSubmatch(line)[1]
		if len(s.blocks) == 0 || s.blocks[len(s.blocks)-1] != within[kind] {
			return fmt.Errorf("%q outside of %q", kind, within[kind])
		}
	case line == "end":
		if len(s.blocks) == 0 {
			return errors.New("end of nothing")
		}
		s.blocks = s.blocks[:len(s.blocks)-1]
	case line == "autonumber":
	default:
		return errUnknown
	}
	for _, name := range names {
		if name != "" && !s.participants[name] {
			return fmt.Errorf("%s is no participant", name)
		}
	}
	return nil
}

// flow reads a flowchart.
type flow struct{ depth int }

var (
	flowHead  = regexp.MustCompile(`^(?:flowchart|graph) (?:TD|TB|BT|LR|RL)$`)
	subgraph  = regexp.MustCompile(`^subgraph \w+(?: ?\[("[^"]+"|[^\]"()]+)\])?$`)
	direction = regexp.MustCompile(`^direction (?:TD|TB|BT|LR|RL)$`)
	click     = regexp.MustCompile(`^click \w+ (?:href )?"([^"]+)"(?: "[^"]*")?$`)
	style     = regexp.MustCompile(`^(?:classDef|class|style|linkStyle) \S+ \S.*$`)
	// A text is quoted, or has none of the characters that mean something.
	nodeStart = regexp.MustCompile(`^[A-Za-z_]\w*`)
	shapes    = regexp.MustCompile(`^(?:` + strings.Join([]string{
		`\[\(` + flowText + `\)\]`, `\(\[` + flowText + `\]\)`, `\(\(` + flowText + `\)\)`, `\[\[` + flowText + `\]\]`, `\{\{` + flowText + `\}\}`,
		`\[` + flowText + `\]`, `\(` + flowText + `\)`, `\{` + flowText + `\}`, `>` + flowText + `\]`,
	}, "|") + `)`)
	edge = regexp.MustCompile(`^(?:` + strings.Join([]string{
		`<?(?:--+|==+) (?:"[^"]+"|[^"\-=|<>\[\](){}]+) (?:--+|==+)[>ox]?`, // -- "text" -->
		`<?-\. (?:"[^"]+"|[^"\-.|<>\[\](){}]+) \.-+>?`,                    // -. text .->
		`<?(?:--+|==+|-\.+-)[>ox]?(?:\|[^|]+\|)?`,                         // -->|text|
	}, "|") + `)`)
)

const flowText = `(?:"[^"]+"|[^"\[\](){}|<>]+)`

func (f *flow) statement(line string) error {
	switch {
	case strings.HasPrefix(line, "subgraph "):
		if !subgraph.MatchString(line) {
			return errors.New("a subgraph reads: subgraph id [title]")
		}
		f.depth++
		return nil
	case line == "end":
		if f.depth == 0 {
			return errors.New("end of nothing")
		}
		f.depth--
		return nil
	case direction.MatchString(line), click.MatchString(line), style.MatchString(line):
		return nil
	case strings.HasPrefix(line, "click "):
		return errors.New(`a click reads: click id "address"`)
	}
	return chain(line)
}

// chain reads node, link, node, link, node …; nodes may be joined with &.
func chain(line string) error {
	rest := strings.TrimSuffix(line, ";")
	for {
		node := nodeStart.FindString(rest)
		if node == "" {
			return errUnknown
		}
		if node == "end" {
			return errors.New("no node may be called end")
		}
		rest = rest[len(node):]
		shape := shapes.FindString(rest)
		rest = strings.TrimLeft(rest[len(shape):], " ")
		if rest == "" {
			return nil
		}
		if next, ok := strings.CutPrefix(rest, "& "); ok {
			rest = next
			continue
		}
		l := edge.FindString(rest)
		if l == "" {
			return fmt.Errorf("cannot be read from %q on", rest)
		}
		rest = strings.TrimLeft(rest[len(l):], " ")
	}
}
