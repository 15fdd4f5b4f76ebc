//! A crate's modules and what each names of others: imports, and paths within the code. What only tests compile is left
//! out. `syn` was rejected: it does not look into macros, and would be compiled a second time for its features.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    syntax::{
        Attributes, Leaf, attributes, balanced, end_of_group, end_of_item, end_of_statement, end_of_visibility,
        leaves_of, path_at,
    },
    tokens::{Kind, Token, tokens},
};

/// The modules of one crate; the first is its root.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    all: Vec<Module>,
}

#[derive(Debug, Default)]
struct Module {
    file: String,
    parent: usize,
    children: BTreeMap<String, usize>,
    /// What `use` brings in, by the name under which it is known here.
    imports: BTreeMap<String, Vec<String>>,
    /// Each path that is written here, with its line.
    paths: Vec<(usize, Vec<String>)>,
}

/// A place where one file names another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub from: String,
    pub to: String,
    pub line: usize,
    pub path: String,
}

/// Where a path leads.
struct Target {
    module: usize,
    /// It names the module itself, not something in it.
    whole: bool,
}

impl Modules {
    /// Reads the crate whose root is this file. `read` gives the text of a file, `None` where there is none.
    pub(crate) fn read(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut modules = Self::default();
        modules.file(root.to_owned(), above(root).to_owned(), 0, read)?;
        Ok(modules)
    }

    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.all.iter().map(|module| module.file.as_str()).collect()
    }

    /// Each place where a file names something of another. A module that is only brought into scope counts where something
    /// of it is named, and something that is exported again counts as what it is.
    pub(crate) fn imports(&self) -> BTreeSet<Import> {
        let mut found = BTreeSet::new();
        for (at, module) in self.all.iter().enumerate() {
            for (line, path) in &module.paths {
                let target = self.resolve(at, path, 0).filter(|target| !target.whole);
                let Some(to) = target.and_then(|target| self.all.get(target.module)) else {
                    continue;
                };
                if to.file != module.file {
                    found.insert(Import {
                        from: module.file.clone(),
                        to: to.file.clone(),
                        line: *line,
                        path: path.join("::"),
                    });
                }
            }
        }
        found
    }

    /// Where a path leads that is written in a module; `None` for other crates.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        const DEEPEST: usize = 32;
        let module = self.all.get(from).filter(|_| depth < DEEPEST)?;
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(0, rest, depth),
            "self" | "super" => {
                let path = if first == "self" { rest } else { path };
                let above = path.iter().take_while(|name| *name == "super").count();
                let mut at = from;
                for _ in 0..above {
                    at = self.all.get(at)?.parent;
                }
                self.descend(at, path.get(above..)?, depth)
            }
            name if module.children.contains_key(name) => self.descend(from, path, depth),
            name => {
                let known = module.imports.get(name).filter(|known| known.first() != Some(first))?;
                let whole: Vec<String> = known.iter().chain(rest).cloned().collect();
                self.resolve(from, &whole, depth + 1)
            }
        }
    }

    /// Follows a path downwards from a module.
    fn descend(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        let Some((first, rest)) = path.split_first() else {
            return Some(Target {
                module: from,
                whole: true,
            });
        };
        let module = self.all.get(from)?;
        if let Some(child) = module.children.get(first) {
            return self.descend(*child, rest, depth);
        }
        let again = module.imports.get(first).and_then(|known| {
            let whole: Vec<String> = known.iter().chain(rest).cloned().collect();
            self.resolve(from, &whole, depth + 1)
        });
        // What another crate has is named by way of this file.
        Some(again.unwrap_or(Target {
            module: from,
            whole: false,
        }))
    }

    /// Reads a file into a new module. Its children stand in `folder`.
    fn file(
        &mut self,
        file: String,
        folder: String,
        parent: usize,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<usize, String> {
        let text = read(&file).ok_or_else(|| format!("{file} cannot be read"))?;
        let tokens = tokens(&text);
        // Whoever takes a string for code finds brackets in it, and may miss the rest of the file.
        balanced(&tokens)
            .map_err(|line| format!("{file}:{line}: brackets do not match: tests/layers cannot read this"))?;
        let at = self.add(&file, parent);
        Scan {
            modules: self,
            module: at,
            file,
            folder,
            inline: false,
            read,
        }
        .scan(&tokens)?;
        Ok(at)
    }

    fn add(&mut self, file: &str, parent: usize) -> usize {
        self.all.push(Module {
            file: file.to_owned(),
            parent,
            ..Module::default()
        });
        self.all.len() - 1
    }
}

/// The reading of one module.
struct Scan<'a> {
    modules: &'a mut Modules,
    module: usize,
    file: String,
    /// Where the files of its children stand.
    folder: String,
    /// It stands within the file of another.
    inline: bool,
    read: &'a dyn Fn(&str) -> Option<String>,
}

impl Scan<'_> {
    fn scan(&mut self, tokens: &[Token]) -> Result<(), String> {
        let mut at = 0;
        while at < tokens.len() {
            at = self.item(tokens, at)?;
        }
        Ok(())
    }

    /// Reads what begins here; answers where the next begins.
    fn item(&mut self, tokens: &[Token], begin: usize) -> Result<usize, String> {
        let Attributes {
            test,
            inner_test,
            path,
            end: mut at,
        } = attributes(tokens, begin);
        if inner_test {
            return Ok(tokens.len());
        }
        if test {
            return Ok(end_of_item(tokens, at));
        }
        self.paths(tokens.get(begin..at).unwrap_or_default());
        let visibility = end_of_visibility(tokens, at);
        if let Some([module, name, after, ..]) = tokens.get(visibility..)
            && module.is_ident("mod")
            && let Some(name) = name.ident()
        {
            if after.is(';') {
                self.child(name, path.as_deref())?;
                return Ok(visibility + 3);
            }
            if after.is('{') {
                let end = end_of_group(tokens, visibility + 2);
                self.inline(name, tokens.get(visibility + 3..end - 1).unwrap_or_default())?;
                return Ok(end);
            }
        }
        if visibility > at {
            return Ok(visibility);
        }
        let Some(token) = tokens.get(at) else { return Ok(at) };
        if token.is_ident("use") && !tokens.get(at + 1).is_some_and(|next| next.is('<')) {
            let end = end_of_statement(tokens, at);
            self.import(tokens.get(at + 1..end).unwrap_or_default());
            return Ok(end);
        }
        let begins = !at
            .checked_sub(1)
            .and_then(|before| tokens.get(before))
            .is_some_and(Token::is_path_sep);
        let path = path_at(tokens, at);
        if begins && path.len() > 1 {
            at += path.len() * 2 - 1;
            self.keep(token.line, path);
            return Ok(at);
        }
        Ok(at + 1)
    }

    /// Keeps the paths among these tokens, and those that stand in strings, as attributes of derives have them.
    fn paths(&mut self, attributes: &[Token]) {
        let mut at = 0;
        while let Some(token) = attributes.get(at) {
            let path = match &token.kind {
                Kind::Text(text) => path_at(&tokens(text), 0),
                _ => path_at(attributes, at),
            };
            at += if token.ident().is_some() {
                (path.len() * 2).max(2) - 1
            } else {
                1
            };
            if path.len() > 1 {
                self.keep(token.line, path);
            }
        }
    }

    fn keep(&mut self, line: usize, path: Vec<String>) {
        if let Some(module) = self.modules.all.get_mut(self.module) {
            module.paths.push((line, path));
        }
    }

    fn import(&mut self, tree: &[Token]) {
        // A path that begins with `::` names another crate.
        if tree.first().is_some_and(Token::is_path_sep) {
            return;
        }
        let mut leaves = Vec::new();
        leaves_of(tree, &[], &mut leaves);
        for Leaf { line, path, name } in leaves {
            if let (Some(name), Some(module)) = (name, self.modules.all.get_mut(self.module)) {
                module.imports.insert(name, path.clone());
            }
            self.keep(line, path);
        }
    }

    /// A module in a file of its own.
    fn child(&mut self, name: &str, path: Option<&str>) -> Result<(), String> {
        let folder = format!("{}/{name}", self.folder);
        let (file, folder) = if let Some(path) = path {
            let base = if self.inline { &self.folder } else { above(&self.file) };
            let file = normal(&format!("{base}/{path}"));
            let folder = above(&file).to_owned();
            (file, folder)
        } else {
            let choices = [format!("{folder}.rs"), format!("{folder}/mod.rs")];
            let found = choices.iter().find(|file| (self.read)(file).is_some());
            let found = found.ok_or_else(|| format!("{}: no file for mod {name}", self.file))?;
            (found.clone(), folder)
        };
        let child = self.modules.file(file, folder, self.module, self.read)?;
        self.adopt(name, child);
        Ok(())
    }

    /// A module within the file.
    fn inline(&mut self, name: &str, body: &[Token]) -> Result<(), String> {
        let child = self.modules.add(&self.file, self.module);
        self.adopt(name, child);
        Scan {
            modules: self.modules,
            module: child,
            file: self.file.clone(),
            folder: format!("{}/{name}", self.folder),
            inline: true,
            read: self.read,
        }
        .scan(body)
    }

    fn adopt(&mut self, name: &str, child: usize) {
        if let Some(module) = self.modules.all.get_mut(self.module) {
            module.children.insert(name.to_owned(), child);
        }
    }
}

/// The folder of a file.
fn above(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The path without `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
