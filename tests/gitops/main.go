// What the programs of others make of our objects: kstatus, by which Flux, Helm 4 and cli-utils wait, and Argo CD's engine for health
// scripts, set up as Argo CD sets it up. Reads {"scripts": {KIND: LUA}, "objects": [OBJECT]} and prints a list of verdicts.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Kstatus string `json:"kstatus"`
	Message string `json:"message"`
	Health  string `json:"health"`
	Why     string `json:"why"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	input, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var question struct {
		Scripts map[string]string
		Objects []json.RawMessage
	}
	if err := json.Unmarshal(input, &question); err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, text := range question.Objects {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(bytes.TrimSpace(text)); err != nil { // whole numbers become int64, as clients read them
			return err
		}
		result, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("kstatus of %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		found := verdict{Kstatus: string(result.Status), Message: result.Message}
		if script, ok := question.Scripts[object.GetKind()]; ok {
			if found.Health, found.Why, err = health(object, script); err != nil {
				return fmt.Errorf("health of %s %s: %w", object.GetKind(), object.GetName(), err)
			}
		}
		verdicts = append(verdicts, found)
	}
	return json.NewEncoder(out).Encode(verdicts)
}

// As util/lua of Argo CD runs a script from its ConfigMap: no libraries but package, base and table, a second at the most. What is
// being deleted never comes to the script.
func health(object *unstructured.Unstructured, script string) (string, string, error) {
	if object.GetDeletionTimestamp() != nil {
		return "Progressing", "Pending deletion", nil
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return "", "", err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("a table is expected, not %s", state.Get(-1).Type())
	}
	word := answer.RawGetString("status").String()
	switch word {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
		return word, answer.RawGetString("message").String(), nil
	}
	return "", "", fmt.Errorf("%q is no health", word)
}

func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case bool:
		return lua.LBool(of)
	case string:
		return lua.LString(of)
	case float64:
		return lua.LNumber(of)
	case int64:
		return lua.LNumber(of)
	case []any:
		table := state.CreateTable(len(of), 0)
		for _, item := range of {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(of))
		for key, item := range of {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
