//! What a Rust file holds, as far as a rule asks for it: items and imports as `syn` reads them, bodies as tokens.

use proc_macro2::{Delimiter, LineColumn, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, LitStr, Meta, Signature, UseTree};

/// A Rust file and what it names.
#[derive(Debug, Default)]
pub(crate) struct RustFile {
    /// Where it is, relative to the root of the workspace.
    pub(crate) path: String,
    pub(crate) line_count: usize,
    /// Paths of two and more segments, imports written out; those within the crate start with `crate`.
    pub(crate) paths: Vec<Named>,
    /// Macros that are called, without their path.
    pub(crate) macros: Vec<Named>,
    /// Attributes, with their path.
    pub(crate) attributes: Vec<Named>,
    /// Functions and methods; the detail is `test` for those with an attribute such as `#[tokio::test]`.
    pub(crate) functions: Vec<Named>,
    /// Methods of `impl` blocks without a trait; the detail is the type.
    pub(crate) methods: Vec<Named>,
    /// Statics; the detail is their type.
    pub(crate) statics: Vec<Named>,
    /// Modules in files of their own.
    pub(crate) modules: Vec<Named>,
    /// String literals outside of documentation; the detail is the name before the bracket, colon or `=` before them.
    pub(crate) texts: Vec<Named>,
    /// Text for users in attributes: of errors, and of what clap derives from, documentation included.
    pub(crate) messages: Vec<Named>,
}

/// A name or text, and what a rule may ask about it besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) detail: String,
    pub(crate) line: usize,
    /// Whether it is compiled for tests only.
    pub(crate) for_tests: bool,
    /// The innermost function around it.
    pub(crate) function: String,
    place: Place,
}

impl RustFile {
    /// Reads a file; `path` is relative to the root of the workspace.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|why| panic!("cannot read {path}: {why}"));
        let syntax = syn::parse2(tokens.clone()).unwrap_or_else(|why| panic!("cannot parse {path}: {why}"));
        let mut reader = Reader::default();
        (reader.file.path, reader.file.line_count) = (path.to_owned(), text.lines().count());
        reader.visit_file(&syntax);
        reader.read(tokens, "");
        reader.finish()
    }

    /// Returns the folder that holds the files of the modules declared in this file.
    pub(crate) fn module_folder(&self) -> String {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let is_root = matches!(name, "lib.rs" | "main.rs" | "mod.rs" | "build.rs");
        if is_root { folder.to_owned() } else { self.path.trim_end_matches(".rs").to_owned() }
    }

    /// Returns the path of the module in its crate, without `crate`.
    pub(crate) fn module(&self) -> Vec<String> {
        let within = self.path.split_once("/src/").map_or(self.path.as_str(), |(_, within)| within);
        let parts = within.trim_end_matches(".rs").split('/').filter(|part| !matches!(*part, "lib" | "main" | "mod"));
        parts.map(str::to_owned).collect()
    }
}

/// From where to where something extends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    end: (usize, usize),
}

impl Place {
    fn new(from: Span, to: Span) -> Self {
        let (LineColumn { line, column }, end) = (from.start(), to.end());
        Self { line, column, end: (end.line, end.column) }
    }

    fn holds(&self, other: &Self) -> bool {
        (self.line, self.column) <= (other.line, other.column) && other.end <= self.end
    }
}

#[derive(Debug, Default)]
struct Reader {
    file: RustFile,
    /// What is compiled for tests only.
    tests: Vec<Place>,
    /// Modules within the file, from the outer to the inner.
    inline_modules: Vec<(Place, String)>,
}

impl Reader {
    /// Reads tokens that follow `before`: paths, macros, texts, and what is for tests only.
    fn read(&mut self, tokens: TokenStream, before: &str) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut last = before.to_owned();
        while at < tokens.len() {
            let mut next = at + 1;
            match &tokens[at] {
                TokenTree::Ident(word) if word == "use" && is_import(&tokens[next..]) => {
                    next += tokens[next..].iter().position(|token| is_mark(token, ';')).unwrap_or_default();
                }
                TokenTree::Ident(word) => {
                    let mut segments = vec![word.unraw().to_string()];
                    while let Some(segment) = next_segment(&tokens[next..]) {
                        segments.push(segment);
                        next += 3;
                    }
                    last = segments.join("::");
                    if let [bang, TokenTree::Group(_), ..] = &tokens[next..]
                        && is_mark(bang, '!')
                    {
                        let name = segments.last().cloned().unwrap_or_default();
                        self.file.macros.push(named(name, word.span()));
                    }
                    self.file.paths.push(named(last.clone(), word.span()));
                }
                TokenTree::Group(group) => self.read(group.stream(), &std::mem::take(&mut last)),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                        self.file.texts.push(Named { detail: last.clone(), ..named(text.value(), literal.span()) });
                    }
                }
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    if let Some(TokenTree::Group(attribute)) = tokens.get(next) {
                        if is_for_tests(attribute.stream()) {
                            let last = item_end(&tokens[next + 1..]).map_or(attribute.span(), TokenTree::span);
                            self.tests.push(Place::new(mark.span(), last));
                        }
                        if idents(attribute.stream()).first().is_none_or(|name| name != "doc") {
                            self.read(attribute.stream(), "");
                        }
                        next += 1;
                    }
                }
                TokenTree::Punct(mark) if matches!(mark.as_char(), ':' | '!' | '=') => {}
                TokenTree::Punct(_) => last.clear(),
            }
            at = next;
        }
    }

    /// Adds what a `use` brings in, its groups written out.
    fn read_use(&mut self, tree: &UseTree, prefix: &str) {
        let below = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        let path = match tree {
            UseTree::Path(path) => return self.read_use(&path.tree, &below(&path.ident.unraw().to_string())),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.read_use(tree, prefix)),
            UseTree::Name(name) if name.ident == "self" => prefix.to_owned(),
            UseTree::Name(name) => below(&name.ident.unraw().to_string()),
            UseTree::Rename(rename) if rename.ident == "self" => prefix.to_owned(),
            UseTree::Rename(rename) => below(&rename.ident.unraw().to_string()),
            UseTree::Glob(_) => below("*"),
        };
        self.file.paths.push(Named { detail: "use".to_owned(), ..named(path, tree.span()) });
    }

    fn read_function(&mut self, whole: Span, signature: &Signature, attributes: &[Attribute]) {
        let is_test = attributes.iter().any(|one| one.path().segments.last().is_some_and(|last| last.ident == "test"));
        let detail = if is_test { "test" } else { "" }.to_owned();
        let mut function = Named { detail, ..named(signature.ident.unraw().to_string(), signature.ident.span()) };
        function.place = Place::new(whole, whole);
        self.file.functions.push(function);
    }

    /// Adds every text in the tokens of an attribute.
    fn read_messages(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.read_messages(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<LitStr>(&literal.to_string());
                    self.file.messages.extend(text.map(|text| named(text.value(), literal.span())));
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// Works out what depends on what is around a name.
    fn finish(self) -> RustFile {
        let Self { mut file, tests, inline_modules } = self;
        let (module, functions) = (file.module(), file.functions.clone());
        let lists = [
            &mut file.paths, &mut file.macros, &mut file.attributes, &mut file.functions, &mut file.methods,
            &mut file.statics, &mut file.modules, &mut file.texts, &mut file.messages,
        ];
        for named in lists.into_iter().flatten() {
            named.for_tests = tests.iter().any(|tests| tests.holds(&named.place));
            let around = functions.iter().rfind(|function| function.place.holds(&named.place));
            named.function = around.map(|function| function.name.clone()).unwrap_or_default();
        }
        for path in &mut file.paths {
            let inline = inline_modules.iter().filter(|(place, _)| place.holds(&path.place)).map(|(_, name)| name);
            let module: Vec<&str> = module.iter().chain(inline).map(String::as_str).collect();
            path.name = absolute(&path.name, module);
        }
        file.paths.retain(|path| path.name.contains("::"));
        file
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.read_use(&item.tree, "");
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.unraw().to_string();
        match &item.content {
            Some(_) => self.inline_modules.push((Place::new(item.span(), item.span()), name)),
            None => self.file.modules.push(named(name, item.ident.span())),
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        let is_mut = matches!(item.mutability, syn::StaticMutability::Mut(_));
        let mut types = Idents(if is_mut { vec!["mut".to_owned()] } else { Vec::new() });
        types.visit_type(&item.ty);
        self.file.statics.push(Named { detail: types.0.join(" "), ..named(item.ident.to_string(), item.ident.span()) });
        visit::visit_item_static(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.read_function(item.span(), &item.sig, &item.attrs);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let (None, syn::Type::Path(of)) = (&item.trait_, &*item.self_ty) {
            let of = of.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
            for method in &item.items {
                if let syn::ImplItem::Fn(method) = method {
                    let ident = &method.sig.ident;
                    self.file.methods.push(Named { detail: of.clone(), ..named(ident.to_string(), ident.span()) });
                }
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.read_function(item.span(), &item.sig, &item.attrs);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        ClapTexts::read(self, &item.attrs, |texts| texts.visit_item_struct(item));
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        ClapTexts::read(self, &item.attrs, |texts| texts.visit_item_enum(item));
        visit::visit_item_enum(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let segments = attribute.path().segments.iter().map(|segment| segment.ident.to_string());
        let name = segments.collect::<Vec<_>>().join("::");
        if let (Meta::List(list), "error") = (&attribute.meta, name.as_str()) {
            self.read_messages(list.tokens.clone());
        }
        self.file.attributes.push(named(name, attribute.span()));
    }
}

/// Collects what clap shows of an item: its documentation and the texts of clap's attributes.
struct ClapTexts<'a>(&'a mut Reader);

impl ClapTexts<'_> {
    fn read(reader: &mut Reader, attributes: &[Attribute], visit: impl FnOnce(&mut ClapTexts<'_>)) {
        const DERIVES: [&str; 4] = ["Args", "Parser", "Subcommand", "ValueEnum"];
        let derives = attributes.iter().filter(|one| one.path().is_ident("derive") || one.path().is_ident("cfg_attr"));
        let lists = derives.filter_map(|attribute| attribute.meta.require_list().ok());
        if lists.flat_map(|list| idents(list.tokens.clone())).any(|ident| DERIVES.contains(&ident.as_str())) {
            visit(&mut ClapTexts(reader));
        }
    }
}

impl<'ast> Visit<'ast> for ClapTexts<'_> {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        const SHOWN: [&str; 6] = ["arg", "cfg_attr", "command", "doc", "group", "value"];
        if SHOWN.iter().any(|name| attribute.path().is_ident(name)) {
            match &attribute.meta {
                Meta::List(list) => self.0.read_messages(list.tokens.clone()),
                Meta::NameValue(syn::MetaNameValue { value: syn::Expr::Lit(literal), .. }) => {
                    if let syn::Lit::Str(text) = &literal.lit {
                        self.0.file.messages.push(named(text.value(), text.span()));
                    }
                }
                Meta::NameValue(_) | Meta::Path(_) => {}
            }
        }
    }
}

/// Collects identifiers.
struct Idents(Vec<String>);

impl<'ast> Visit<'ast> for Idents {
    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.0.push(ident.to_string());
    }
}

fn named(name: String, span: Span) -> Named {
    let place = Place::new(span, span);
    Named { name, line: place.line, place, ..Named::default() }
}

/// Resolves `self` and `super` at the beginning of a path in `module`.
fn absolute(path: &str, mut module: Vec<&str>) -> String {
    let segments: Vec<&str> = path.split("::").collect();
    let local = segments.iter().take_while(|segment| matches!(**segment, "crate" | "self" | "super")).count();
    if local == 0 || segments.len() == local {
        return if local > 1 { "crate::*".to_owned() } else { path.to_owned() };
    }
    for segment in &segments[..local] {
        match *segment {
            "crate" => module.clear(),
            "super" => drop(module.pop()),
            _ => {}
        }
    }
    [&["crate"], &module[..], &segments[local..]].concat().join("::")
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// Returns whether tokens after the word `use` are a path, and not the lifetimes of `impl Trait + use<'a>`.
fn is_import(after: &[TokenTree]) -> bool {
    after.first().is_some_and(|token| matches!(token, TokenTree::Ident(_)) || is_mark(token, ':'))
}

/// Returns the segment with which a path goes on.
fn next_segment(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [first, second, TokenTree::Ident(name), ..] if is_mark(first, ':') && is_mark(second, ':') => {
            Some(name.unraw().to_string())
        }
        _ => None,
    }
}

fn is_for_tests(attribute: TokenStream) -> bool {
    let idents = idents(attribute);
    idents.first().is_some_and(|first| first == "cfg")
        && idents.iter().any(|ident| ident == "test")
        && !idents.iter().any(|ident| ident == "not")
}

/// Returns the last token of the item, field or statement that `tokens` begin with.
fn item_end(tokens: &[TokenTree]) -> Option<&TokenTree> {
    const KEYWORDS: [&str; 11] =
        ["const", "enum", "fn", "impl", "let", "mod", "static", "struct", "trait", "type", "use"];
    let mut is_item = false;
    for token in tokens {
        match token {
            TokenTree::Ident(word) => is_item |= KEYWORDS.iter().any(|keyword| word == keyword),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return Some(token),
            // A comma may stand among the parameters of an item.
            TokenTree::Punct(mark) if mark.as_char() == ';' || (mark.as_char() == ',' && !is_item) => {
                return Some(token);
            }
            TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    tokens.last()
}

fn idents(tokens: TokenStream) -> Vec<String> {
    let idents = tokens.into_iter().flat_map(|token| match token {
        TokenTree::Ident(ident) => vec![ident.to_string()],
        TokenTree::Group(group) => idents(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    });
    idents.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[Named]) -> Vec<&str> {
        list.iter().filter(|named| !named.for_tests).map(|named| named.name.as_str()).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(names(&RustFile::new("crates/a/src/b/c.rs", text).paths), expected, "{text}");
    }

    #[test]
    fn test_paths_groups_of_imports_are_written_out() {
        check(
            "use std::{fs::{self, File as F}, io, time::*};",
            &["std::fs", "std::fs::File", "std::io", "std::time::*"],
        );
    }

    #[test]
    fn test_paths_within_the_crate_are_absolute() {
        check("use crate::a::B; use super::d; use self::e::F;", &["crate::a::B", "crate::b::d", "crate::b::c::e::F"]);
        check("fn f() { super::super::x::g() }", &["crate::x::g"]);
        check("mod inline { use super::super::d; }", &["crate::b::d"]);
    }

    #[test]
    fn test_paths_in_macros_but_not_in_comments_are_found() {
        check("fn f() { assert!(std::fs::read(p).is_ok(), \"std::net\") } // std::env::var", &["std::fs::read"]);
        check("fn f() -> impl Sized + use<'_> { tokio::fs::read(p) }", &["tokio::fs::read"]);
    }

    #[test]
    fn test_for_tests_module_item_and_statement_are_marked() {
        check("#[cfg(test)] #[expect(x)] mod tests { use std::fs; } use a::b;", &["a::b"]);
        check("struct S { #[cfg(test)] a: std::fs::File, b: c::D }", &["c::D"]);
        check("fn f() { #[cfg(test)] std::fs::read(p); a::b() }", &["a::b"]);
        check("#[cfg(not(test))] use a::b; #[cfg(feature = \"test\")] use c::d;", &["a::b", "c::d"]);
    }

    #[test]
    fn test_texts_know_their_function_and_what_they_are_given_to() {
        let file = RustFile::new("f.rs", "fn f() { A::new(\"a\", B { c: \"b\" }) } fn g() { x!(\"c\") }");

        let found: Vec<_> =
            file.texts.iter().map(|t| (t.name.as_str(), t.function.as_str(), t.detail.as_str())).collect();
        assert_eq!(found, [("a", "f", "A::new"), ("b", "f", "c"), ("c", "g", "x")]);
    }

    #[test]
    fn test_messages_of_errors_and_clap_are_found() {
        let text = "#[derive(thiserror::Error)] #[error(\"a {b}\")] struct E;\n/// no\nstruct F;\n\
                    /// yes\n#[cfg_attr(feature = \"clap\", derive(clap::Args))] struct G { #[arg(help = \"field\")] h: u8 }";

        let file = RustFile::new("f.rs", text);

        let found = names(&file.messages);
        assert!(["a {b}", " yes", "field"].iter().all(|text| found.contains(text)), "{found:?}");
        assert!(!found.contains(&" no"));
    }

    #[test]
    fn test_module_folder_root_and_other_file_differ() {
        let folder = |path: &str| RustFile::new(path, "").module_folder();

        assert_eq!(folder("crates/a/src/lib.rs"), "crates/a/src");
        assert_eq!(folder("crates/a/src/b.rs"), "crates/a/src/b");
        assert_eq!(folder("tests/tests/x/main.rs"), "tests/tests/x");
    }
}
