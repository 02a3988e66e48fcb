package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// span is a stretch of a text that goes.
type span struct{ begin, end int }

// cutGo takes names out of a Go file: what declares them, and whatever names them,
// if that is an element of a list, a field, a case or a statement that only does
// something. A name in quotes is a literal. Where something else depends on one, a
// condition or a result, cutting would be a decision: that is an error.
func cutGo(file, text string, names []string, found map[string]bool) (string, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, text, parser.ParseComments)
	if err != nil {
		return "", err
	}
	at := func(p token.Pos) int { return files.Position(p).Offset }
	var gone []span
	var stack []ast.Node
	ast.Inspect(parsed, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		name := ""
		switch n := n.(type) {
		case *ast.Ident:
			name = n.Name
		case *ast.BasicLit:
			name = n.Value
		}
		if name == "" || !slices.Contains(names, name) {
			return true
		}
		found[name] = true
		if slices.ContainsFunc(gone, func(s span) bool { return s.begin <= at(n.Pos()) && at(n.Pos()) < s.end }) {
			return true
		}
		node, listed := removable(stack)
		switch {
		case node == nil:
			err = fmt.Errorf("%s: %s is needed here", files.Position(n.Pos()), name)
		case listed && !alone(text, at(node.Pos()), at(node.End())):
			gone = append(gone, element(text, at(node.Pos()), at(node.End())))
		default:
			gone = append(gone, lines(text, at(node.Pos()), at(node.End()), "//"))
		}
		return true
	})
	if err != nil || len(gone) == 0 {
		return text, err
	}
	return withoutImports(file, text, without(text, gone))
}

// removable is the smallest thing around the last of the nodes that can go by itself,
// and whether it is an element of a list.
func removable(stack []ast.Node) (node ast.Node, listed bool) {
	last := stack[len(stack)-1]
	for i := len(stack) - 1; i > 0; i-- {
		n, parent := stack[i], stack[i-1]
		switch p := parent.(type) {
		case *ast.CompositeLit:
			if n != p.Type {
				return n, true
			}
		case *ast.CallExpr:
			if n != p.Fun && takesLists(p.Fun) {
				return n, true
			}
		}
		switch n := n.(type) {
		case *ast.Field:
			if i > 1 {
				if _, ok := stack[i-2].(*ast.StructType); ok {
					return n, false
				}
			}
		case *ast.ValueSpec, *ast.TypeSpec:
			if decl, ok := parent.(*ast.GenDecl); ok && len(decl.Specs) == 1 {
				return decl, false
			}
			return n, false
		case *ast.FuncDecl:
			if n.Name == last {
				return n, false
			}
			return nil, false
		case *ast.ExprStmt, *ast.AssignStmt, *ast.DeferStmt:
			switch parent.(type) {
			case *ast.BlockStmt, *ast.CaseClause:
				return n, false
			}
		case *ast.ReturnStmt:
			return nil, false
		case *ast.IfStmt: // of something that is done, or of what nothing is any more
			if n.Else == nil && (n.Init != nil && within(last, n.Init) || isEqual(n.Cond) && within(last, n.Cond)) {
				return n, false
			}
			return nil, false
		case *ast.CaseClause:
			if len(n.List) == 1 && within(last, n.List[0]) {
				return n, false
			}
			return nil, false
		}
	}
	return nil, false
}

// takesLists tells whether the arguments of a function are a list of equals.
func takesLists(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "append"
	case *ast.SelectorExpr:
		return f.Sel.Name == "Scan"
	}
	return false
}

func isEqual(e ast.Expr) bool {
	b, ok := e.(*ast.BinaryExpr)
	return ok && b.Op == token.EQL
}

func within(n, of ast.Node) bool { return of.Pos() <= n.Pos() && n.End() <= of.End() }

// alone tells whether something has its lines for itself.
func alone(text string, begin, end int) bool {
	before := text[strings.LastIndex(text[:begin], "\n")+1 : begin]
	after, _, _ := strings.Cut(text[end:], "\n")
	after, _, _ = strings.Cut(strings.TrimPrefix(after, ","), "//")
	return strings.TrimSpace(before) == "" && strings.TrimSpace(after) == ""
}

// element is an element of a list with the comma behind it.
func element(text string, begin, end int) span {
	if rest := strings.TrimLeft(text[end:], " "); strings.HasPrefix(rest, ",") {
		rest = strings.TrimLeft(rest[1:], " ")
		end = len(text) - len(rest)
	}
	return span{begin, end}
}

// lines are whole lines, with the comment above them.
func lines(text string, begin, end int, comment string) span {
	begin = strings.LastIndex(text[:begin], "\n") + 1
	for begin > 0 {
		above := strings.LastIndex(text[:begin-1], "\n") + 1
		if !strings.HasPrefix(strings.TrimSpace(text[above:begin]), comment) {
			break
		}
		begin = above
	}
	if i := strings.IndexByte(text[end:], '\n'); i >= 0 {
		end += i + 1
	} else {
		end = len(text)
	}
	return span{begin, end}
}

func without(text string, gone []span) string {
	slices.SortFunc(gone, func(a, b span) int { return b.begin - a.begin })
	from := len(text)
	for _, s := range gone {
		if s.end > from {
			s.end = from // it lies in the one before
		}
		if s.begin < s.end {
			text, from = text[:s.begin]+text[s.end:], s.begin
		}
	}
	return text
}

var majorVersion = regexp.MustCompile(`^v\d+$`)

// withoutImports drops the imports that were used before a cut and are not after it.
func withoutImports(file, before, after string) (string, error) {
	was, err := parser.ParseFile(token.NewFileSet(), file, before, 0)
	if err != nil {
		return "", err
	}
	files := token.NewFileSet()
	is, err := parser.ParseFile(files, file, after, parser.ParseComments)
	if err != nil {
		return "", fmt.Errorf("after the cut: %w", err)
	}
	then, now := selected(was), selected(is)
	var gone []span
	for _, i := range is.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return "", err
		}
		if majorVersion.MatchString(path.Base(name)) {
			name = path.Dir(name)
		}
		name = path.Base(name)
		if i.Name != nil {
			name = i.Name.Name
		}
		if then[name] && !now[name] {
			gone = append(gone, lines(after, files.Position(i.Pos()).Offset, files.Position(i.End()).Offset, "//"))
		}
	}
	return without(after, gone), nil
}

// selected are the names to which a file applies a dot.
func selected(f *ast.File) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				names[x.Name] = true
			}
		}
		return true
	})
	return names
}

// cutBlock takes out of a text that is not Go what begins with a line: of YAML the
// block below it, of SQL the statement, of a page the section, and otherwise the
// line alone. The comment above goes too.
func cutBlock(file, text, begins string) string {
	begin := strings.Index("\n"+text, "\n"+begins)
	if begin < 0 {
		return text // it went with another part
	}
	rest := text[begin:]
	end := len(rest)
	switch path.Ext(file) {
	case ".yml", ".yaml":
		indent := len(begins) - len(strings.TrimLeft(begins, " "))
		below := regexp.MustCompile(fmt.Sprintf(`\n(?: {0,%d}[^ \n])`, indent))
		if i := below.FindStringIndex(rest); i != nil {
			end = i[0]
		}
		return without(text, []span{lines(text, begin, begin+end, "#")})
	case ".sql":
		if i := strings.Index(rest, ";\n"); i >= 0 {
			end = i + 1
		}
		return without(text, []span{lines(text, begin, begin+end, "--")})
	case ".md":
		if level, _, heading := strings.Cut(begins, " "); heading && level != "" && strings.Trim(level, "#") == "" {
			if i := regexp.MustCompile(fmt.Sprintf(`\n#{1,%d} `, len(level))).FindStringIndex(rest); i != nil {
				end = i[0]
			}
			return without(text, []span{{begin, min(len(text), begin+end+1)}})
		}
	}
	return without(text, []span{lines(text, begin, begin+strings.IndexByte(rest+"\n", '\n'), "\x00")})
}

// cutTable takes a table and its indexes out of a migration.
func cutTable(text, table string) string {
	for _, statement := range []string{`CREATE TABLE ` + table + ` \((?s:.*?)\n\)[^;]*;`, `CREATE (?:UNIQUE )?INDEX \w+ ON ` + table + ` [^;]*;`} {
		whole := regexp.MustCompile(`(?m)(?:^--.*\n)*^` + statement + `[^\n]*\n`)
		text = whole.ReplaceAllString(text, "")
	}
	return regexp.MustCompile(`\n{3,}`).ReplaceAllString(text, "\n\n")
}
