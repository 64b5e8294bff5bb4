module oldnode

go 1.26.0

require (
	first.era/api v0.1.0
	github.com/atomix/api v0.3.3
	github.com/atomix/go-framework v0.5.1
	github.com/gogo/protobuf v1.3.1
	github.com/sirupsen/logrus v1.4.2
)

require (
	github.com/golang/protobuf v1.3.2 // indirect
	github.com/konsorten/go-windows-terminal-sequences v1.0.1 // indirect
	golang.org/x/net v0.0.0-20190311183353-d8887717615a // indirect
	golang.org/x/sys v0.0.0-20190422165155-953cdadca894 // indirect
	golang.org/x/text v0.3.0 // indirect
	google.golang.org/genproto v0.0.0-20190819201941-24fa4b261c55 // indirect
	google.golang.org/grpc v1.27.0 // indirect
)

// The API of the first era has the same path as its successors: what nodes of that time read is known here by another.
replace first.era/api => github.com/atomix/api v0.1.0
