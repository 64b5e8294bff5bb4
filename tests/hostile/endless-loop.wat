;; A guest whose every function runs for ever.
(core module $guest
  (memory (export "memory") 1)
  (func (export "describe") (result i32) (loop $again (br $again)) (unreachable))
  (func (export "validate") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) (unreachable))
  (func (export "plan") (param i32) (result i32) (loop $again (br $again)) (unreachable))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
