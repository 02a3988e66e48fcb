package main

import (
	"fmt"
	"regexp"
	"strings"
)

// Diagrams are read here as far as our pages use the language: every statement must
// be one of those below. A browser would draw nothing for a diagram with one wrong
// line, and say so to the reader only.

// A text is quoted, or has none of the characters that mean something.
const (
	flowText  = `(?:"[^"]+"|[^"\[\](){}|<>]+)`
	flowShape = `(?:\[\(§\)\]|\(\[§\]\)|\(\(§\)\)|\[\[§\]\]|\{\{§\}\}|\[§\]|\(§\)|\{§\}|>§\])?` // § stands for a text
	flowNode  = `[A-Za-z_]\w*` + flowShape
	flowLink  = ` ?(?:` +
		`<?(?:--+|==+) (?:"[^"]+"|[^"\-=|<>\[\](){}]+) (?:--+|==+)[>ox]?|` + // -- "text" -->
		`<?-\. (?:"[^"]+"|[^"\-.|<>\[\](){}]+) \.-+>?|` + // -. text .->
		`<?(?:--+|==+|-\.+-)[>ox]?(?:\|[^|]+\|)?|&) ?` // -->|text|, and & that joins nodes
)

var (
	flowHead = regexp.MustCompile(`^(?:flowchart|graph) (?:TD|TB|BT|LR|RL)$`)
	click    = regexp.MustCompile(`^click \w+ (?:href )?"([^"]+)"(?: "[^"]*")?$`)
	subgraph = regexp.MustCompile(`^subgraph \w+(?: ?\[("[^"]+"|[^\]"()]+)\])?$`)
	flowLine = regexp.MustCompile(strings.ReplaceAll(`^(?:direction (?:TD|TB|BT|LR|RL)|(?:classDef|class|style|linkStyle) \S+ \S.*|`+
		flowNode+`(?:`+flowLink+flowNode+`)*;?)$`, "§", flowText))
	asNode = regexp.MustCompile(`(?:^|[>&-] )end(?:\W|$)`)

	participant = regexp.MustCompile(`^(?:participant|actor) (\w+)(?: as \S.*)?$`)
	// What names participants: a note, an arrow, an activation.
	naming = regexp.MustCompile(`^(?:Note (?:over|left of|right of) (\w+)(?:, ?(\w+))?: ?\S.*` +
		`|(\w+) ?(?:<<-->>|<<->>|-->>|->>|--x|-x|--\)|-\)|-->|->)[+-]? ?(\w+): ?\S.*|(?:activate|deactivate) (\w+))$`)
	block  = regexp.MustCompile(`^(loop|alt|opt|par|critical|break|rect|box)( .*)?$`)
	branch = regexp.MustCompile(`^(else|and|option)( .*)?$`)
)

// within says which block a branch belongs to.
var within = map[string]string{"else": "alt", "and": "par", "option": "critical"}

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
		for n, says := range diagram(lines[first:i]) {
			if says != "" {
				gaps = append(gaps, fmt.Sprintf("%s:%d: diagram: %s", path, first+1+n, says))
			}
		}
	}
	return gaps
}

// diagram says of each line of a diagram what is wrong with it, or "".
func diagram(lines []string) []string {
	says := make([]string, max(1, len(lines)))
	head := ""
	if len(lines) > 0 {
		head = strings.TrimSpace(lines[0])
	}
	sequence := head == "sequenceDiagram"
	if !sequence && !flowHead.MatchString(head) {
		says[0] = fmt.Sprintf("%q is neither sequenceDiagram nor flowchart with a direction", head)
		return says
	}
	var open []string // the blocks that have not ended
	participants := map[string]bool{"": true}
	for n := 1; n < len(lines); n++ {
		line := strings.TrimSpace(lines[n])
		switch {
		case line == "" || strings.HasPrefix(line, "%%"):
		case sequence && strings.Contains(line, ";"):
			says[n] = "a semicolon ends a statement; use a comma: " + line
		case line == "end" && len(open) == 0:
			says[n] = "end of nothing"
		case line == "end":
			open = open[:len(open)-1]
		case !sequence && subgraph.MatchString(line):
			open = append(open, "subgraph")
		case !sequence && asNode.MatchString(line):
			says[n] = "no node may be called end: " + line
		case !sequence && (click.MatchString(line) || flowLine.MatchString(line)):
		case sequence && participant.MatchString(line):
			participants[participant.FindStringSubmatch(line)[1]] = true
		case sequence && naming.MatchString(line):
			for _, name := range naming.FindStringSubmatch(line)[1:] {
				if !participants[name] {
					says[n] = fmt.Sprintf("%s is no participant: %s", name, line)
				}
			}
		case sequence && block.MatchString(line):
			open = append(open, block.FindStringSubmatch(line)[1])
		case sequence && branch.MatchString(line):
			kind := branch.FindStringSubmatch(line)[1]
			if len(open) == 0 || open[len(open)-1] != within[kind] {
				says[n] = fmt.Sprintf("%q outside of %q", kind, within[kind])
			}
		case sequence && line == "autonumber":
		default:
			says[n] = "unknown statement: " + line
		}
	}
	if last := len(lines) - 1; len(open) > 0 && says[last] == "" {
		says[last] = fmt.Sprintf("%d blocks without end", len(open))
	}
	return says
}
