;; What a component that speaks the contract 0.1 has around its core module. That is put in first, as `$guest`.
(component
  (core instance $guest (instantiate $guest))

  ;; The contract's types. Each is exported, since the exported functions speak of it.
  (type $column' (record (field "name" string) (field "data-type" string) (field "json-path" string)))
  (export $column "column" (type $column'))
  (type $class-kind' (record
    (field "kind" string) (field "plural" string) (field "short-names" (list string)) (field "versions" (list string))
    (field "spec-schema" string) (field "columns" (list $column))))
  (export $class-kind "class-kind" (type $class-kind'))
  (type $object-kind' (record
    (field "group" string) (field "version" string) (field "kind" string) (field "plural" string) (field "reads" (list string))))
  (export $object-kind "object-kind" (type $object-kind'))
  (type $descriptor' (record
    (field "name" string) (field "version" string) (field "class-kinds" (list $class-kind))
    (field "emits" (list $object-kind)) (field "watches" (list $object-kind))))
  (export $descriptor "descriptor" (type $descriptor'))
  (type $field-error' (record (field "path" string) (field "message" string)))
  (export $field-error "field-error" (type $field-error'))
  (type $database' (record
    (field "namespace" string) (field "name" string) (field "partitions" u32) (field "partitions-per-cluster" u32)
    (field "labels" (list (tuple string string))) (field "database-label" string)))
  (export $database "database" (type $database'))
  (type $class' (record (field "kind" string) (field "version" string) (field "name" string) (field "spec" string)))
  (export $class "class" (type $class'))
  (type $partition' (record (field "id" u32) (field "cluster" u32) (field "service-name" string)))
  (export $partition "partition" (type $partition'))
  (type $observed-field' (record (field "pointer" string) (field "value" string)))
  (export $observed-field "observed-field" (type $observed-field'))
  (type $observed-object' (record
    (field "group" string) (field "kind" string) (field "name" string) (field "terminating" bool)
    (field "fields" (list $observed-field))))
  (export $observed-object "observed-object" (type $observed-object'))
  (type $request' (record
    (field "database" $database) (field "class" $class) (field "partitions" (list $partition))
    (field "observed" (list $observed-object)) (field "cluster-domain" string) (field "features" (list string))))
  (export $request "request" (type $request'))
  (type $object' (record (field "id" string) (field "manifest" string)))
  (export $object "object" (type $object'))
  (type $endpoint' (record (field "host" string) (field "port" u16)))
  (export $endpoint "endpoint" (type $endpoint'))
  (type $reason' (record (field "code" string) (field "message" string)))
  (export $reason "reason" (type $reason'))
  (type $partition-state' (record
    (field "id" u32) (field "ready" bool) (field "endpoints" (list $endpoint)) (field "problem" (option $reason))))
  (export $partition-state "partition-state" (type $partition-state'))
  (type $unsupported-change' (record
    (field "field" string) (field "wanted" string) (field "kept" string) (field "why" string)))
  (export $unsupported-change "unsupported-change" (type $unsupported-change'))
  (type $note' (record (field "warning" bool) (field "reason" $reason)))
  (export $note "note" (type $note'))
  (type $storage-plan' (record
    (field "objects" (list $object)) (field "partitions" (list $partition-state))
    (field "unsupported" (list $unsupported-change)) (field "notes" (list $note))))
  (export $storage-plan "storage-plan" (type $storage-plan'))
  (type $refusal' (variant (case "invalid" (list $field-error)) (case "waiting" $reason)))
  (export $refusal "refusal" (type $refusal'))

  (func $describe (result $descriptor)
    (canon lift (core func $guest "describe") (memory (core memory $guest "memory"))))
  (func $validate (param "kind" string) (param "spec" string) (result (result (error (list $field-error))))
    (canon lift (core func $guest "validate") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (func $plan (param "request" $request) (result (result $storage-plan (error $refusal)))
    (canon lift (core func $guest "plan") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (instance $plugin
    (export "describe" (func $describe))
    (export "validate" (func $validate))
    (export "plan" (func $plan)))
  (export "atomix:storage/plugin@0.1.0" (instance $plugin)))
