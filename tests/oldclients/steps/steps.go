// Package steps runs what a client does one step after another, and prints a line of JSON for each. It knows no client.
package steps

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

// Arguments are what a walk needs to know.
type Arguments struct {
	// Address is the controller's, as host:port.
	Address string
	// Namespace is where the database is.
	Namespace string
	// Name is the database's or group's.
	Name string
}

// Walk is a row of steps that has begun.
type Walk struct {
	deadline time.Time
	lock     sync.Mutex
	step     string
	start    time.Time
}

// line is what is printed of a step.
type line struct {
	Step  string `json:"step"`
	Says  any    `json:"says,omitempty"`
	Error string `json:"error,omitempty"`
	Took  int64  `json:"took_ms"`
}

// Begin reads the command line, and ends the program with status 1 when the walk is not over in time: clients of the first generation
// do not heed a context while they open sessions.
func Begin() (context.Context, *Walk, Arguments) {
	within := flag.Duration("within", time.Minute, "how long the whole walk may take")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: %s [FLAG ...] ADDRESS NAMESPACE NAME\n", os.Args[0])
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 3 {
		flag.Usage()
		os.Exit(2)
	}
	walk := &Walk{deadline: time.Now().Add(*within), step: "begin", start: time.Now()}
	ctx, _ := context.WithDeadline(context.Background(), walk.deadline) // ends with the program
	go walk.watch(*within)
	return ctx, walk, Arguments{Address: flag.Arg(0), Namespace: flag.Arg(1), Name: flag.Arg(2)}
}

// Do does a step. It prints what the step answers if it is not nil, and ends the program with status 1 if the step fails.
func Do[T any](walk *Walk, name string, step func() (T, error)) T {
	walk.lock.Lock()
	walk.step, walk.start = name, time.Now()
	walk.lock.Unlock()
	answer, err := step()
	walk.lock.Lock()
	defer walk.lock.Unlock()
	said := line{Step: name, Took: time.Since(walk.start).Milliseconds()}
	switch told := any(answer).(type) {
	case bool, uint64, string:
		said.Says = told
	}
	if err != nil {
		said.Says, said.Error = nil, err.Error()
	}
	print(said)
	if err != nil {
		os.Exit(1)
	}
	return answer
}

// Want ends the program with status 1 if a step has not answered what it must.
func Want[T comparable](walk *Walk, name string, wanted T, step func() (T, error)) {
	Do(walk, name, func() (T, error) {
		got, err := step()
		if err == nil && got != wanted {
			err = fmt.Errorf("%v, and not %v", got, wanted)
		}
		return got, err
	})
}

// watch ends the program some time after the deadline, which leaves those that heed the context a moment to say what they know.
func (walk *Walk) watch(within time.Duration) {
	time.Sleep(time.Until(walk.deadline) + time.Second)
	walk.lock.Lock()
	print(line{Step: walk.step, Error: fmt.Sprintf("the walk is not over after %v", within), Took: time.Since(walk.start).Milliseconds()})
	os.Exit(1)
}

func print(said line) {
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
