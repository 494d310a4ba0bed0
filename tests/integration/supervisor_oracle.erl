%% Plays rows of tests/unit/core/supervision_table.py to Erlang/OTP's own supervisor.
%%
%% run/1 is given a file with one term a row, {Strategy, Intensity, Period, AutoShutdown, Children, Steps}, and prints
%% a line a row: what was seen at each step, separated by "|". The words are those of the table.
%%
%% A row is played by a process that is the supervisor's parent; a recorder, asked by everybody before they
%% do anything, keeps what was seen in order and says whose start fails and who ends meanwhile. A step is over when
%% the supervisor's list has no process that is dead and none that is being restarted.
-module(supervisor_oracle).
-behaviour(supervisor).
-export([run/1, init/1, start_child/3, child/4]).

-define(PATIENCE, 20000).

run([File]) ->
    error_logger:tty(false),
    logger:set_primary_config(level, none),
    {ok, Rows} = file:consult(File),
    Numbered = lists:zip(lists:seq(1, length(Rows)), Rows),
    Me = self(),
    [spawn_link(fun() -> Me ! {played, Number, play(Row)} end) || {Number, Row} <- Numbered],
    [receive {played, Number, Seen} -> io:format("~s~n", [lists:join("|", Seen)]) end || {Number, _} <- Numbered],
    halt(0).

%% -- the parent

play({Strategy, Intensity, Period, AutoShutdown, Children, Steps}) ->
    process_flag(trap_exit, true),
    Recorder = spawn_link(fun() -> record([], #{}, #{}, #{}) end),
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => AutoShutdown},
    Begin = fun() -> supervisor:start_link(?MODULE, {Flags, [spec(Recorder, Child) || Child <- Children]}) end,
    play(Steps, Begin, none, Recorder, []).

play([], _, _, _, Seen) ->
    lists:reverse(Seen);
play([Step | Steps], Begin, Sup, Recorder, Seen) ->
    {Answer, After} = step(Step, Begin, Sup, Recorder),
    {Last, Now} = settle(After),
    Marks = ask(Recorder, seen) ++ [Answer || Answer =/= ""] ++ [Last || Last =/= ""],
    play(Steps, Begin, Now, Recorder, [lists:join(" ", Marks) | Seen]).

step({'begin'}, Begin, none, _) ->
    case Begin() of
        {ok, Pid} -> {"", Pid};
        {error, {shutdown, _}} -> {"refused", none};
        {error, {Kind, _}} when Kind =:= start_spec; Kind =:= supervisor_data; Kind =:= bad_start_spec -> {"invalid", none}
    end;
step({wait, Seconds}, _, Sup, _) ->
    timer:sleep(round(Seconds * 1000)),
    {"", Sup};
step({fails, Name, Times}, _, Sup, Recorder) ->
    {ask(Recorder, {fails, Name, Times}), Sup};
step({'when', Name, Verb, Other, Reason}, _, Sup, Recorder) ->
    {ask(Recorder, {hook, {Name, Verb}, {Other, Reason}}), Sup};
step(_, _, none, _) ->
    {"", none};
step({list}, _, Sup, _) ->
    Names = [case is_pid(Pid) of true -> [atom_to_list(Id)]; false -> ["(", atom_to_list(Id), ")"] end
             || {Id, Pid, _, _} <- lists:reverse(supervisor:which_children(Sup))],
    {lists:flatten(lists:join(" ", Names)), Sup};
step({shutdown}, _, Sup, _) ->
    exit(Sup, shutdown),
    {"", {ending, Sup}};
step({ends, Name, Reason}, _, Sup, Recorder) ->
    make_end(ask(Recorder, {pid, Name}), Reason),
    {"", Sup};
step({start, Child}, _, Sup, Recorder) ->
    {request(fun() -> supervisor:start_child(Sup, spec(Recorder, Child)) end), Sup};
step({stop, Name}, _, Sup, _) ->
    {request(fun() -> supervisor:terminate_child(Sup, Name) end), Sup};
step({restart, Name}, _, Sup, _) ->
    {request(fun() -> supervisor:restart_child(Sup, Name) end), Sup};
step({delete, Name}, _, Sup, _) ->
    {request(fun() -> supervisor:delete_child(Sup, Name) end), Sup}.

request(Ask) ->
    case Ask() of
        ok -> "=ok";
        {ok, _} -> "=ok";
        {error, {already_started, _}} -> "=already_started";
        {error, cannot} -> "=failed";
        {error, {cannot, _}} -> "=failed";
        {error, Why} when is_atom(Why) -> "=" ++ atom_to_list(Why);
        {error, Why} when is_tuple(Why) -> "=invalid"
    end.

%% Wait until nothing is to be done any more; say whether the supervisor has ended.
settle(none) ->
    {"", none};
settle({ending, Sup}) ->
    receive {'EXIT', Sup, shutdown} -> {"end", none} after ?PATIENCE -> exit(supervisor_does_not_end) end;
settle(Sup) ->
    receive
        {'EXIT', Sup, shutdown} -> {"end", none}
    after 0 ->
        Children = try supervisor:which_children(Sup) catch exit:_ -> ended end,
        case Children =:= ended orelse [x || {_, Pid, _, _} <- Children, not at_rest(Pid)] of
            true -> settle({ending, Sup});
            [] -> {"", Sup};
            _ -> timer:sleep(1), settle(Sup)
        end
    end.

at_rest(undefined) -> true;
at_rest(restarting) -> false;
at_rest(Pid) -> is_process_alive(Pid).

make_end(none, _) ->
    false;
make_end(Pid, Reason) ->
    Monitor = monitor(process, Pid),
    Pid ! {'end', Reason},
    receive {'DOWN', Monitor, process, Pid, Why} -> Why =/= noproc after ?PATIENCE -> exit(child_does_not_end) end.

%% -- the supervisor and its children

init({Flags, Specs}) ->
    {ok, {Flags, Specs}}.

spec(Recorder, {Name, Restart, Significant, Stubborn}) ->
    Shutdown = case Stubborn of true -> 100; false -> 10000 end,
    #{id => Name, start => {?MODULE, start_child, [Recorder, Name, Stubborn]}, restart => Restart,
      significant => Significant, shutdown => Shutdown}.

start_child(Recorder, Name, Stubborn) ->
    case ask(Recorder, {starting, Name}) of
        fails ->
            {error, cannot};
        Hook ->
            carry_out(Recorder, Hook),
            proc_lib:start_link(?MODULE, child, [Recorder, Name, Stubborn, self()])
    end.

child(Recorder, Name, Stubborn, Parent) ->
    process_flag(trap_exit, true),
    ask(Recorder, {runs, Name, self()}),
    proc_lib:init_ack({ok, self()}),
    child_loop(Recorder, Name, Stubborn, Parent).

child_loop(Recorder, Name, Stubborn, Parent) ->
    receive
        {'end', Reason} ->
            exit(Reason);
        {'EXIT', Parent, Reason} ->
            carry_out(Recorder, ask(Recorder, {stopping, Name, Stubborn})),
            case Stubborn of
                true -> receive never -> ok end;
                false -> exit(Reason)
            end
    end.

carry_out(_, none) ->
    ok;
carry_out(Recorder, {Other, Reason}) ->
    case make_end(ask(Recorder, {pid, Other}), Reason) of
        true -> ask(Recorder, {mark, "~", Other});
        false -> ok
    end.

%% -- the recorder

ask(Recorder, What) ->
    Monitor = monitor(process, Recorder),
    Recorder ! {self(), Monitor, What},
    receive
        {Monitor, Answer} -> demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, _, Why} -> exit({recorder, Why})
    end.

record(Seen, Fails, Hooks, Pids) ->
    receive
        {From, Tag, What} ->
            {Answer, Seen1, Fails1, Hooks1, Pids1} = note(What, Seen, Fails, Hooks, Pids),
            From ! {Tag, Answer},
            record(Seen1, Fails1, Hooks1, Pids1)
    end.

note(seen, Seen, Fails, Hooks, Pids) ->
    {lists:reverse(Seen), [], Fails, Hooks, Pids};
note({mark, Sign, Name}, Seen, Fails, Hooks, Pids) ->
    {ok, [Sign ++ atom_to_list(Name) | Seen], Fails, Hooks, Pids};
note({fails, Name, Times}, Seen, Fails, Hooks, Pids) ->
    {"", Seen, Fails#{Name => Times}, Hooks, Pids};
note({hook, Key, Hook}, Seen, Fails, Hooks, Pids) ->
    {"", Seen, Fails, Hooks#{Key => Hook}, Pids};
note({starting, Name}, Seen, Fails, Hooks, Pids) ->
    case maps:get(Name, Fails, 0) of
        0 ->
            {Hook, Hooks1} = take({Name, starts}, Name, Hooks),
            {Hook, ["+" ++ atom_to_list(Name) | Seen], Fails, Hooks1, Pids};
        Times ->
            {fails, ["!" ++ atom_to_list(Name) | Seen], Fails#{Name => Times - 1}, Hooks, Pids}
    end;
note({stopping, Name, Stubborn}, Seen, Fails, Hooks, Pids) ->
    Sign = case Stubborn of true -> "x"; false -> "-" end,
    {Hook, Hooks1} = take({Name, stops}, Name, Hooks),
    {Hook, [Sign ++ atom_to_list(Name) | Seen], Fails, Hooks1, maps:remove(Name, Pids)};
note({runs, Name, Pid}, Seen, Fails, Hooks, Pids) ->
    {ok, Seen, Fails, Hooks, Pids#{Name => Pid}};
note({pid, Name}, Seen, Fails, Hooks, Pids) ->
    {maps:get(Name, Pids, none), Seen, Fails, Hooks, Pids}.

take(Key, Name, Hooks) ->
    Hook = maps:get(Key, Hooks, none),
    Rest = maps:remove(Key, Hooks),
    case Hook of
        {Name, _} -> {none, Rest};
        _ -> {Hook, Rest}
    end.
