// client is what a pod of the tests runs: it looks names up and asks servers, one command a call, and says what came back.
//
//	client wait                          stays until it is told to stop
//	client write FILE TEXT               writes a file
//	client read FILE                     prints one
//	client lookup NAME                   the addresses of a name, sorted, one a line
//	client tcp HOST:PORT                 whether something listens
//	client get URL                       the status and body of an HTTP answer
//	client post URL BODY                 the same, for a POST of JSON
//	client resp HOST:PORT WORD...        one command of the protocol that Redis and Valkey speak
//
// It ends with 1, and the reason on standard error, when an answer does not come within ten seconds or is an error.
//
// A Secret in /run/secrets/client says how: ca.crt signs the servers, tls.crt and tls.key are who it is itself, password is sent first.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	limit = 10 * time.Second
	given = "/run/secrets/client"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do: wait, write, read, lookup, tcp, get, post or resp")
	}
	verb, rest := args[0], args[1:]
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch {
	case verb == "wait":
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
		<-told
		return nil
	case verb == "write" && len(rest) == 2:
		return os.WriteFile(rest[0], []byte(rest[1]), 0o644)
	case verb == "read" && len(rest) == 1:
		text, err := os.ReadFile(rest[0])
		fmt.Println(string(text))
		return err
	case verb == "lookup" && len(rest) == 1:
		addresses, err := net.DefaultResolver.LookupHost(ctx, rest[0])
		sort.Strings(addresses)
		fmt.Println(strings.Join(addresses, "\n"))
		return err
	case verb == "tcp" && len(rest) == 1:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", rest[0])
		if err != nil {
			return err
		}
		fmt.Println(conn.RemoteAddr())
		return conn.Close()
	case verb == "get" && len(rest) == 1:
		return ask(ctx, http.MethodGet, rest[0], nil)
	case verb == "post" && len(rest) == 2:
		return ask(ctx, http.MethodPost, rest[0], strings.NewReader(rest[1]))
	case verb == "resp" && len(rest) >= 2:
		return resp(ctx, rest[0], rest[1:])
	}
	return fmt.Errorf("%s: not understood with %d words after it", verb, len(rest))
}

func ask(ctx context.Context, method, url string, body io.Reader) error {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	secure, err := identity()
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: secure}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, strings.TrimSpace(string(text)))
	if err == nil && answer.StatusCode >= 300 {
		err = errors.New(answer.Status)
	}
	return err
}

// identity is what the Secret says of servers and of the client, as far as it does.
func identity() (*tls.Config, error) {
	config := &tls.Config{}
	if authority, err := os.ReadFile(filepath.Join(given, "ca.crt")); err == nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(authority)
	}
	certificate := filepath.Join(given, "tls.crt")
	if _, err := os.Stat(certificate); err != nil {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, filepath.Join(given, "tls.key"))
	config.Certificates = []tls.Certificate{pair}
	return config, err
}

// resp sends one command as an array of strings and prints the one answer, a list one item a line. The password, if one is given,
// goes first.
func resp(ctx context.Context, address string, command []string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	answers := bufio.NewReader(conn)
	if password, err := os.ReadFile(filepath.Join(given, "password")); err == nil {
		send(conn, []string{"AUTH", string(password)})
		if _, err := read(answers); err != nil {
			return err
		}
	}
	send(conn, command)
	text, err := read(answers)
	fmt.Println(text)
	return err
}

func send(to io.Writer, words []string) {
	text := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	io.WriteString(to, text) // what could not be written has no answer
}

func read(from *bufio.Reader) (string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New(rest)
	}
	count, err := strconv.Atoi(rest)
	if err != nil || (kind != '$' && kind != '*') {
		return "", fmt.Errorf("not an answer: %q", line)
	}
	if count < 0 {
		return "(nil)", nil
	}
	if kind == '$' {
		text := make([]byte, count+2)
		_, err := io.ReadFull(from, text)
		return string(text[:count]), err
	}
	items := make([]string, count)
	for i := range items {
		if items[i], err = read(from); err != nil {
			return "", err
		}
	}
	return strings.Join(items, "\n"), nil
}
