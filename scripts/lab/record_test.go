package main

import "testing"

func TestVerdictOn_CountsOnlyTheNamedTest(t *testing.T) {
	for _, c := range []struct{ what, lines, want string }{
		{"it passes", `{"Action":"run","Test":"TestX"}` + "\n" + `{"Action":"pass","Test":"TestX"}` + "\n" + `{"Action":"pass"}`, passed},
		{"it fails", `{"Action":"fail","Test":"TestX"}` + "\n" + `{"Action":"fail"}`, failed},
		{"one whose name begins like it fails", `{"Action":"fail","Test":"TestXY"}` + "\n" + `{"Action":"pass","Test":"TestX"}`, passed},
		{"it is not built", `x.go:1:1: syntax error` + "\n" + `{"Action":"build-fail"}` + "\n" + `{"Action":"fail"}`, notRun},
		{"there is no such test", `{"Action":"output","Output":"testing: warning: no tests to run\n"}` + "\n" + `{"Action":"pass"}`, notRun},
		{"it is skipped", `{"Action":"skip","Test":"TestX"}` + "\n" + `{"Action":"pass"}`, notRun},
		{"it writes of a failure", `{"Action":"output","Test":"TestX","Output":"--- FAIL: TestX\n"}` + "\n" + `{"Action":"pass","Test":"TestX"}`, passed},
	} {
		if got := verdictOn("TestX", []byte(c.lines)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
